"""Translates errors of fsspec's file systems into errors with the URL, the reason and a remedy.

Clients of buckets have error classes of their own, which are recognised here by their names and
codes, so that none of these packages has to be installed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from canopy_search.filestore.errors import (
    FileStoreError,
    FileStoreRefusedError,
    FileStoreUnavailableError,
)
from canopy_search.filestore.messages import first_line
from canopy_search.filestore.urls import shown_url

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_NO_BUCKET = "NoSuchBucket"
_NO_CREDENTIALS = {
    "CredentialRetrievalError",
    "InvalidConfigError",
    "NoAuthTokenError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "SSOTokenLoadError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
_UNAVAILABLE = {
    "ClientConnectionError",
    "ClientConnectorError",
    "ClientPayloadError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "EndpointConnectionError",
    "HTTPClientError",
    "IncompleteReadError",
    "ProxyConnectionError",
    "ReadTimeoutError",
    "ResponseParserError",
    "ResponseStreamingError",
    "ServerDisconnectedError",
}
_UNAVAILABLE_CODES = {
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
}


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turns any error of a client into an OSError.

    Args:
        url: of the file store, without secrets.

    Raises:
        FileNotFoundError: the file does not exist, and the file store does.
        FileStoreRefusedError: there are no credentials, they are rejected, or there is no such
            bucket.
        FileStoreUnavailableError: it is unavailable for now.
        OSError: anything else.
    """
    try:
        yield
    except FileStoreError:
        raise
    except Exception as error:
        found = _translation(error, url)
        if found is error:
            raise
        raise found from error


def _translation(error: Exception, url: str) -> Exception:
    if isinstance(error, OSError) and not _is_remote(url):
        return error
    code, status = _answer(error)
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = first_line(message).rstrip(".")
    if refused := _refused(error, url, code, status, text):
        return FileStoreRefusedError(f"{url}: {refused}")
    if isinstance(error, FileNotFoundError):
        return error
    if _is_remote(url) and _is_unavailable(error, code, status):
        address = f" and {_ENDPOINTS[1]}" if _is_s3(url) else ""
        return FileStoreUnavailableError(
            f"{url}: cannot be reached{_at(url)}; check the network{address}"
        )
    kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
    return FileStoreError(f"{url}: {kind}{text or 'unknown error'}")


def _refused(error: Exception, url: str, code: str, status: int, text: str) -> str | None:
    """Returns why no later attempt can succeed, and what to do; None if one may."""
    name = type(error).__name__
    if name in _NO_CREDENTIALS:
        return (
            f"no credentials ({text}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE"
        )
    if code == _NO_BUCKET:
        return f"there is no such bucket{_at(url)}; create it, or correct its name"
    if name == "SSLError":
        return f"{text}; name its certificate in AWS_CA_BUNDLE"
    if isinstance(error, PermissionError) or status in {401, 403}:
        why = ": ".join(part for part in (code, text) if part)
        return (
            f"access denied ({why}); check the credentials, and whether they may list, read and "
            "write there"
        )
    return None


def _is_unavailable(error: Exception, code: str, status: int) -> bool:
    by_name = type(error).__name__ in _UNAVAILABLE or code in _UNAVAILABLE_CODES
    by_kind = isinstance(error, ConnectionError | TimeoutError)
    return by_name or by_kind or status >= 500 or status == 429


def _answer(error: BaseException) -> tuple[str, int]:
    """Returns the error code and HTTP status of a server's response, if there are any."""
    for source in (error, error.__cause__):
        response = getattr(source, "response", None)
        if isinstance(response, dict):
            code = str(response.get("Error", {}).get("Code", ""))
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return code, int(status or 0)
    return "", 0


def _at(url: str) -> str:
    """Returns the address of the bucket's server for the message, if it is not Amazon's."""
    address = next((value for name in _ENDPOINTS if (value := os.environ.get(name))), "")
    return f" at {shown_url(address)}" if address and _is_s3(url) else ""


def _is_remote(url: str) -> bool:
    return "://" in url and not url.startswith(("file://", "local://"))


def _is_s3(url: str) -> bool:
    return url.startswith(("s3://", "s3a://"))
