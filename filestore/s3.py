"""What is particular to buckets that speak S3, as s3fs reaches them."""

from contextlib import suppress
from typing import Any

from fsspec.asyn import sync

PROTOCOLS = frozenset({"s3", "s3a"})
EXTRA = "canopy-search[s3]"

# Silence for as long as this is an answer, too. A call is tried twice in all; who can wait for
# longer than that waits on top of it.
_CONNECT_S = 5
_SILENCE_S = 15
_ATTEMPTS = 2

PART_BYTES = 50 * 2**20
_PARTS_AT_ONCE = 4


def options(connections: int) -> dict[str, Any]:
    """Returns what s3fs is opened with; credentials and address are botocore's own affair.

    Args:
        connections: calls at the same time.
    """
    return {
        # Other machines write there, too.
        "use_listings_cache": False,
        # With more, each reading of an object would ask for its size first.
        "max_concurrency": 1,
        "config_kwargs": {
            "connect_timeout": _CONNECT_S,
            "read_timeout": _SILENCE_S,
            "max_pool_connections": connections,
            "retries": {"total_max_attempts": _ATTEMPTS, "mode": "standard"},
        },
    }


def write_options() -> dict[str, Any]:
    """Returns how an object is written."""
    return {"chunksize": PART_BYTES, "max_concurrency": _PARTS_AT_ONCE}


def is_in_parts(size: int) -> bool:
    """Whether s3fs writes an object of this many bytes in parts."""
    return size >= 2 * PART_BYTES


def try_once(files: Any) -> None:
    """Leaves repeating to botocore: s3fs would repeat each of its attempts five times."""
    files.retries = 1


def unfinished_uploads(files: Any, prefix: str, limit_s: float) -> dict[tuple[str, str], int]:
    """Returns uploads in parts that were not ended: path with bucket, and id → bytes so far.

    Args:
        files: the file system.
        prefix: bucket and beginning of the keys.
        limit_s: longest time of a call, in seconds.
    """
    bucket, _, key = prefix.partition("/")
    found: dict[tuple[str, str], int] = {}
    marker: dict[str, str] = {}
    while True:
        page = files.call_s3(
            "list_multipart_uploads", Bucket=bucket, Prefix=key, **marker, timeout=limit_s
        )
        for each in page.get("Uploads", ()):
            parts = files.call_s3(
                "list_parts",
                Bucket=bucket,
                Key=each["Key"],
                UploadId=each["UploadId"],
                timeout=limit_s,
            )
            size = sum(int(part["Size"]) for part in parts.get("Parts", ()))
            found[f"{bucket}/{each['Key']}", each["UploadId"]] = size
        if not page.get("IsTruncated"):
            return found
        marker = {
            "KeyMarker": page["NextKeyMarker"],
            "UploadIdMarker": page["NextUploadIdMarker"],
        }


def abort_upload(files: Any, path: str, upload: str, limit_s: float) -> None:
    """Gives up an upload in parts.

    Args:
        files: the file system.
        path: bucket and key.
        upload: its id.
        limit_s: longest time of the call, in seconds.
    """
    bucket, _, key = path.partition("/")
    files.call_s3(
        "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload, timeout=limit_s
    )


def close(files: Any, limit_s: float) -> None:
    """Closes the connections; by itself s3fs does so when its turn comes, and complains then.

    Args:
        files: the file system.
        limit_s: longest time to wait, in seconds.
    """
    with suppress(Exception):  # whatever is wrong with them, nobody needs them any more
        sync(files.loop, files.s3.close, timeout=limit_s)
