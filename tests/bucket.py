"""A server that speaks S3, in a process of its own, and a bucket for each test."""

import os
import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import uuid4

import boto3

START_LIMIT_S = 240.0

_RUNNING = re.compile(r"Running on http://127\.0\.0\.1:(\d+)")
_REQUEST = re.compile(r'"(GET|PUT|HEAD|POST|DELETE) (\S+) HTTP')


def start_moto(log: Path) -> tuple[Popen[bytes], dict[str, Any]]:
    """Starts moto's server in a process group of its own; its buckets are gone with its process.

    Args:
        log: what it writes.

    Returns:
        Its process, and its ``port`` and ``log``.
    """
    with log.open("wb") as written:
        process = Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    deadline_s = time.monotonic() + START_LIMIT_S
    while not (found := _RUNNING.search(log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.05)
    return process, {"port": int(found.group(1)), "log": str(log)}


class BucketServer:
    """A running moto.

    Args:
        facts: of `start_moto`.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self.port = int(facts["port"])
        self._log = Path(facts["log"])

    def requests(self, bucket: str) -> list[tuple[str, str]]:
        """Method and path of all requests so far that are about a bucket."""
        found = _REQUEST.findall(self._log.read_text())
        return [(method, path) for method, path in found if path.startswith(f"/{bucket}")]


class Bucket:
    """One bucket, as somebody else's client sees it.

    Attributes:
        variables: environment of whoever uses it; the credentials are no real ones.
    """

    def __init__(self, server: BucketServer) -> None:
        self.server = server
        self.name = f"b{uuid4().hex[:12]}"
        self.url = f"s3://{self.name}"
        self.variables = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        self.client = _client(self.variables["AWS_ENDPOINT_URL"])
        self.client.create_bucket(Bucket=self.name)

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def put_folder(self, folder: Path, prefix: str) -> None:
        """Uploads all files of a folder and below."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def keys(self, prefix: str = "") -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix)
        return [each["Key"] for each in found.get("Contents", [])]

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def begin_upload(self, key: str, part: bytes) -> None:
        """Uploads a part of an object, and no more."""
        upload = self.client.create_multipart_upload(Bucket=self.name, Key=key)["UploadId"]
        self.client.upload_part(Bucket=self.name, Key=key, UploadId=upload, PartNumber=1, Body=part)

    def uploads(self) -> list[str]:
        """Keys of the uploads in parts that were begun and not ended."""
        found = self.client.list_multipart_uploads(Bucket=self.name)
        return [each["Key"] for each in found.get("Uploads", [])]

    def read_keys(self) -> list[str]:
        """Keys of the objects that were read so far, in order, as often as they were."""
        paths = [path for method, path in self.server.requests(self.name) if method == "GET"]
        keys = [path.partition("?")[0].removeprefix(f"/{self.name}").strip("/") for path in paths]
        return [key for key in keys if key]

    def listings(self) -> int:
        """How often it was listed so far, a page at a time."""
        return sum("list-type=2" in path for _, path in self.server.requests(self.name))


@cache
def _client(address: str) -> Any:
    """Returns a client, which takes a while to make."""
    return boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
