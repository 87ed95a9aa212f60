import asyncio
import multiprocessing
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest
from fsspec.exceptions import FSTimeoutError
from fsspec.registry import _registry
from syrupy.assertion import SnapshotAssertion

from canopy_search.filestore import s3
from canopy_search.filestore.errors import (
    FileStoreRefusedError,
    FileStoreUnavailableError,
    FileStoreUrlError,
)
from canopy_search.filestore.store import FileStore
from tests.bucket import Bucket
from tests.proxy import Proxy


@pytest.fixture(params=["folder", "file://", "memory://", "s3://"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
    """One contract for every kind of place."""
    urls = {
        "folder": lambda: str(tmp_path / "a folder"),
        "file://": lambda: f"file://{tmp_path}/deep",
        "memory://": lambda: f"memory://{uuid4().hex}/deep",
        "s3://": lambda: f"{request.getfixturevalue('bucket').url}/deep/er",
    }
    opened = FileStore(urls[request.param]())
    opened.make_folder("in")
    yield opened
    opened.close()


@pytest.fixture
def in_bucket(bucket: Bucket) -> Iterator[FileStore]:
    opened = FileStore(f"{bucket.url}/place")
    yield opened
    opened.close()


def test_what_is_written_is_read_listed_and_removed(place: FileStore) -> None:
    place.write("a.txt", b"first")
    place.write("in/ä b+c#d%20.txt", b"second")
    place.write("a.txt", b"again")
    assert place.read("a.txt") == b"again"
    assert place.read_beginning("in/ä b+c#d%20.txt", 3) == b"sec"
    assert place.read_beginning("a.txt", 100) == b"again"
    assert {name: each.size for name, each in place.list_folder().items()} == {"a.txt": 5}
    below = place.list_below()
    assert {name: each.size for name, each in below.items()} == {"a.txt": 5, "in/ä b+c#d%20.txt": 6}
    assert place.list_below("in").keys() == {"ä b+c#d%20.txt"}
    assert place.unfinished_uploads("in") == {}

    for _ in range(2):
        place.remove("a.txt")
    assert place.list_folder() == {}
    with pytest.raises(FileNotFoundError):
        place.read("a.txt")
    assert place.list_folder("nowhere") == place.list_below("nowhere") == {}


def test_another_content_has_another_state(place: FileStore) -> None:
    place.write("a", b"one")
    before = place.list_folder()["a"]
    place.write("a", b"two")
    after = place.list_folder()["a"]
    assert before.size == after.size
    assert before.state != after.state


def test_what_others_write_is_seen_at_once(in_bucket: FileStore, bucket: Bucket) -> None:
    """s3fs keeps listings, and answers from them what is there and what is not."""
    assert in_bucket.list_folder() == {}
    bucket.put("place/a", b"theirs")
    assert in_bucket.read("a") == b"theirs"
    assert in_bucket.list_folder()["a"].size == 6
    bucket.put("place/a", b"longer than before")
    assert in_bucket.read("a") == b"longer than before"
    bucket.remove("place/a")
    assert in_bucket.list_folder() == {}
    with pytest.raises(FileNotFoundError):
        in_bucket.read("a")


def test_a_reading_is_one_request(in_bucket: FileStore, bucket: Bucket) -> None:
    bucket.put("place/a", b"x")
    before = len(bucket.server.requests(bucket.name))
    in_bucket.read("a")
    assert [method for method, _ in bucket.server.requests(bucket.name)[before:]] == ["GET"]


def test_markers_of_folders_are_no_files(in_bucket: FileStore, bucket: Bucket) -> None:
    """Consoles of buckets make an object for a folder."""
    for key in ("place/", "place/in/", "place/in/a"):
        bucket.put(key, b"")
    assert in_bucket.list_folder() == {}
    assert in_bucket.list_folder("in").keys() == {"a"}
    assert in_bucket.list_below().keys() == {"in/a"}


def test_large_objects_go_in_parts_and_broken_ones_leave_none(
    in_bucket: FileStore, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 5 * 2**20)
    content = bytes(range(256)) * (12 * 2**12)
    in_bucket.write("large", content)
    assert in_bucket.read("large") == content
    assert any("uploadId" in path for _, path in bucket.server.requests(bucket.name))

    # The parts arrive and the call that puts them together takes too long. s3fs gives up its own
    # upload; one of the same name is left over.
    in_bucket.remove("large")
    files = in_bucket._files()
    real = files._call_s3
    unfinished: list[str] = []

    async def time_out(method: str, *arguments: object, **options: object) -> object:
        if method == "complete_multipart_upload":
            await asyncio.to_thread(bucket.begin_upload, "place/large", b"1")
            unfinished.extend(await asyncio.to_thread(bucket.uploads))
            raise FSTimeoutError
        return await real(method, *arguments, **options)

    monkeypatch.setattr(files, "_call_s3", time_out)
    with pytest.raises(FileStoreUnavailableError):
        in_bucket.write("large", content)
    assert unfinished == ["place/large", "place/large"]
    assert in_bucket.list_folder() == {}
    assert bucket.uploads() == []


def test_a_call_that_takes_too_long_is_ended(
    in_bucket: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*arguments: object, **options: object) -> object:
        await asyncio.sleep(10_000)

    monkeypatch.setattr("canopy_search.filestore.store._limit_s", lambda size: 0.2)
    monkeypatch.setattr(in_bucket._files(), "_call_s3", hang)
    with pytest.raises(FileStoreUnavailableError):
        in_bucket.write("a", b"x")


def test_unfinished_uploads_are_found_and_given_up(in_bucket: FileStore, bucket: Bucket) -> None:
    bucket.begin_upload("place/in/a.pt", b"12345")
    bucket.begin_upload("place/in2/b.pt", b"1")
    found = in_bucket.unfinished_uploads("in")
    assert {name: size for (name, _), size in found.items()} == {"a.pt": 5}
    [(name, upload)] = found
    for _ in range(2):
        in_bucket.abort_upload(f"in/{name}", upload)
    assert bucket.uploads() == ["place/in2/b.pt"]


def test_a_bucket_that_is_not_there_is_neither_empty_nor_made(bucket: Bucket) -> None:
    place = FileStore(f"s3://{bucket.name}-not/place")
    for call in (
        lambda: place.read("a"),
        lambda: place.write("a", b"x"),
        place.list_folder,
        place.list_below,
        lambda: place.unfinished_uploads(""),
    ):
        with pytest.raises(
            FileStoreRefusedError, match=rf"s3://{bucket.name}-not/place: .* bucket at"
        ):
            call()
    place.make_folder()
    names = [each["Name"] for each in bucket.client.list_buckets()["Buckets"]]
    assert bucket.name in names
    assert f"{bucket.name}-not" not in names
    place.close()


def test_no_credentials(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    place = FileStore(bucket.url)
    with pytest.raises(FileStoreRefusedError, match="AWS_ACCESS_KEY_ID") as error:
        place.list_folder()
    assert neutral(error.value, bucket) == words
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(FileStoreRefusedError, match="nobody") as error:
        FileStore(bucket.url).list_folder()
    assert neutral(error.value, bucket) == words
    place.close()


def neutral(error: BaseException, bucket: Bucket) -> str:
    """What an error says, without what is another one in each run."""
    return re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", str(error).replace(bucket.name, "BUCKET"))


class _Refusing(BaseHTTPRequestHandler):
    status, code = 403, "AccessDenied"

    def do_GET(self) -> None:
        text = f"<Error><Code>{self.code}</Code><Message>No.</Message></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments: object) -> None:
        pass


REFUSALS = [
    (403, "AccessDenied", FileStoreRefusedError),
    (403, "InvalidAccessKeyId", FileStoreRefusedError),
    (400, "ExpiredToken", FileStoreRefusedError),
    (503, "SlowDown", FileStoreUnavailableError),
    (500, "InternalError", FileStoreUnavailableError),
    (400, "InvalidRequest", OSError),
]


def test_what_a_server_refuses_is_said(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    said = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        place = FileStore(bucket.url)
        for status, code, kind in REFUSALS:
            monkeypatch.setattr(_Refusing, "status", status)
            monkeypatch.setattr(_Refusing, "code", code)
            for call in (lambda: place.read("a"), place.list_below):
                with pytest.raises(kind, match=f"^s3://{bucket.name}.*: ") as error:
                    call()
                assert "\n" not in str(error.value)
                said[f"{code}, {call.__name__.strip('<>')}"] = neutral(error.value, bucket)
        place.close()
        server.shutdown()
    assert said == words


def test_a_server_that_refuses_connections_or_is_silent_is_away(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(bucket.server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    place = FileStore(bucket.url)
    place.write("a", b"x")
    proxy.shut()
    with pytest.raises(FileStoreUnavailableError):
        place.read("a")
    proxy.open()
    assert place.read("a") == b"x"
    place.close()
    with monkeypatch.context() as patch:
        patch.setattr(s3, "_SILENCE_S", 0.5)
        with proxy.silent(), pytest.raises(FileStoreUnavailableError):
            place.read("a")
        place.close()
    assert FileStore(bucket.url).read("a") == b"x"
    proxy.shut()


def test_a_process_that_was_forked_opens_its_own(in_bucket: FileStore, bucket: Bucket) -> None:
    in_bucket.write("a", b"x")
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: sys.exit(in_bucket.read("a") != b"x"))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert in_bucket.read("a") == b"x"


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)
    with pytest.raises(FileStoreUrlError, match=r"canopy-search\[s3\]"):
        FileStore("s3://bucket/x")


def test_threads_share_a_place(in_bucket: FileStore) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda at: in_bucket.write(str(at), b"%d" % at), range(32)))
        assert list(pool.map(lambda at: int(in_bucket.read(str(at))), range(32))) == list(range(32))
