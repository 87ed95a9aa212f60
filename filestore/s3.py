"""Options and calls that are specific to S3 buckets, through s3fs."""

from contextlib import suppress
from typing import Any

from fsspec.asyn import sync

PROTOCOLS = frozenset({"s3", "s3a"})
EXTRA = "canopy-search[s3]"

# A call fails after this long without an answer, and is tried twice in all; callers that can wait
# longer retry on top of that.
_CONNECT_S = 5
_SILENCE_S = 15
_ATTEMPTS = 2

PART_BYTES = 50 * 2**20
_PARTS_AT_ONCE = 4


def options(connections: int) -> dict[str, Any]:
    """Returns the options of s3fs; botocore finds credentials and address itself.

    Args:
        connections: number of concurrent calls.
    """
    return {
        # Other machines write to the same bucket.
        "use_listings_cache": False,
        # With more, each read of an object would request its size first.
        "max_concurrency": 1,
        "config_kwargs": {
            "connect_timeout": _CONNECT_S,
            "read_timeout": _SILENCE_S,
            "max_pool_connections": connections,
            "retries": {"total_max_attempts": _ATTEMPTS, "mode": "standard"},
        },
    }


def write_options() -> dict[str, Any]:
    """Returns the options for writing an object."""
    return {"chunksize": PART_BYTES, "max_concurrency": _PARTS_AT_ONCE}


def is_in_parts(size: int) -> bool:
    """Whether s3fs writes an object with this many bytes as a multipart upload."""
    return size >= 2 * PART_BYTES


def try_once(files: Any) -> None:
    """Leaves retries to botocore: s3fs would repeat each of its attempts five times."""
    files.retries = 1


def unfinished_uploads(files: Any, prefix: str, limit_s: float) -> dict[tuple[str, str], int]:
    """Returns unfinished multipart uploads: path with bucket, and id → bytes so far.

    Args:
        files: the file system.
        prefix: bucket and prefix of the keys.
        limit_s: time limit of a call, in seconds.
    """
    bucket, _, key = prefix.partition("/")
    found: dict[tuple[str, str], int] = {}
    marker: dict[str, str] = {}
    while True:
        page = files.call_s3(
            "list_multipart_uploads", Bucket=bucket, Prefix=key, **marker, timeout=limit_s
        )
        for upload in page.get("Uploads", ()):
            parts = files.call_s3(
                "list_parts",
                Bucket=bucket,
                Key=upload["Key"],
                UploadId=upload["UploadId"],
                timeout=limit_s,
            )
            size = sum(int(part["Size"]) for part in parts.get("Parts", ()))
            found[f"{bucket}/{upload['Key']}", upload["UploadId"]] = size
        if not page.get("IsTruncated"):
            return found
        marker = {
            "KeyMarker": page["NextKeyMarker"],
            "UploadIdMarker": page["NextUploadIdMarker"],
        }


def abort_upload(files: Any, path: str, upload: str, limit_s: float) -> None:
    """Aborts a multipart upload.

    Args:
        files: the file system.
        path: bucket and key.
        upload: its id.
        limit_s: time limit of the call, in seconds.
    """
    bucket, _, key = path.partition("/")
    files.call_s3(
        "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload, timeout=limit_s
    )


def close(files: Any, limit_s: float) -> None:
    """Closes the connections; s3fs itself does so late, and then prints warnings.

    Args:
        files: the file system.
        limit_s: longest time to wait, in seconds.
    """
    with suppress(Exception):  # they are not needed any more, so errors do not matter
        sync(files.loop, files.s3.close, timeout=limit_s)
