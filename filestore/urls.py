"""URLs of places: which texts are URLs, what of them people may see, and what none may hold."""

import re
from pathlib import Path
from urllib.parse import unquote

from canopy_search.filestore.errors import FileStoreUrlError

Source = Path | str
"""A path on this machine, or the URL of anything else that fsspec reads."""

_LOCAL = re.compile(r"(?:file|local)://(?=/)")
_SECRET_WORDS = ("key", "secret", "token", "password", "signature", "credential", "sig=")


def is_url(text: str) -> bool:
    """Whether a text names a place by a URL and not by a path."""
    return "://" in text


def source_of(text: str) -> Source:
    """Returns what a text names: a path, also where it is written as ``file://``, or a URL.

    Raises:
        FileStoreUrlError: the URL holds a secret.
    """
    if not is_url(text):
        return Path(text)
    if found := _LOCAL.match(text):
        return Path(unquote(text[found.end() :]))
    check_url(text)
    return text.rstrip("/")


def joined(url: str, *names: str) -> str:
    """Returns the URL of something below another one."""
    return "/".join([url.rstrip("/"), *(name for name in names if name)])


def shown_url(url: str) -> str:
    """Returns a URL as people may see it: without user, password and query."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if not separator:
        return url
    user, at, host = authority.rpartition("@")
    known = f"{user.partition(':')[0]}@" if at and not _is_bucket(scheme) else ""
    return f"{scheme}://{known}{host}{slash}{path.partition('?')[0]}"


def check_url(url: str) -> None:
    """Makes sure that a URL holds no secret: it would be kept in a study, a log or a report.

    Raises:
        FileStoreUrlError: it does; the message does not.
    """
    scheme, _, rest = url.partition("://")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    query = rest.partition("?")[2].lower()
    if at and (":" in user or _is_bucket(scheme)):
        what = "a user or password"
    elif any(word in query for word in _SECRET_WORDS):
        what = "a key or signature"
    else:
        return
    raise FileStoreUrlError(
        f"{shown_url(url)}: {what} in a URL would be kept with the study; take it out, and "
        f"{_REMEDY if _is_bucket(scheme) else 'leave it to the configuration of that service'}"
    )


_REMEDY = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


def _is_bucket(scheme: str) -> bool:
    return scheme.rpartition("::")[2] in {"s3", "s3a", "gs", "gcs"}
