"""URLs of file stores: recognises them, removes secrets for messages, and rejects secrets."""

import re
from pathlib import Path
from urllib.parse import unquote

from canopy_search.filestore.errors import FileStoreUrlError

Source = Path | str
"""A path on this machine, or a URL that fsspec can read."""

_LOCAL = re.compile(r"(?:file|local)://(?=/)")
_SECRET_WORDS = ("key", "secret", "token", "password", "signature", "credential", "sig=")


def is_url(text: str) -> bool:
    """Whether a text is a URL and not a path."""
    return "://" in text


def source_of(text: str) -> Source:
    """Returns the path, also for a ``file://`` URL, or the URL that a text contains.

    Raises:
        FileStoreUrlError: the URL contains a secret.
    """
    if not is_url(text):
        return Path(text)
    if found := _LOCAL.match(text):
        return Path(unquote(text[found.end() :]))
    check_url(text)
    return text.rstrip("/")


def joined(url: str, *names: str) -> str:
    """Returns a URL extended by path components."""
    return "/".join([url.rstrip("/"), *(name for name in names if name)])


def shown_url(url: str) -> str:
    """Returns a URL without its secrets: user, password and query."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if not separator:
        return url
    user, at, host = authority.rpartition("@")
    known = f"{user.partition(':')[0]}@" if at and not _is_bucket(scheme) else ""
    return f"{scheme}://{known}{host}{slash}{path.partition('?')[0]}"


def check_url(url: str) -> None:
    """Checks that a URL contains no secret, which would be stored in a study, log or report.

    Raises:
        FileStoreUrlError: it contains one; the message does not repeat it.
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
        f"{shown_url(url)}: {what} in a URL would be stored with the study; remove it, and "
        f"{_REMEDY if _is_bucket(scheme) else 'put it into the configuration of that service'}"
    )


_REMEDY = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


def _is_bucket(scheme: str) -> bool:
    return scheme.rpartition("::")[2] in {"s3", "s3a", "gs", "gcs"}
