"""Checkpoints in a bucket, and what a bucket that takes its time must not hold up."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from canopy_search.filestore.errors import FileStoreRefusedError, FileStoreUnavailableError
from canopy_search.storage.database import Database
from canopy_search.storage.errors import CheckpointMissError
from canopy_search.storage.stages import checkpoint_files
from canopy_search.storage.stages.checkpoint_files import CheckpointFiles
from canopy_search.storage.stages.checkpoints import LARGEST_DEFAULT_BYTES, CheckpointStore
from canopy_search.storage.workers.session import worker_session
from tests.bucket import Bucket
from tests.proxy import Proxy
from tests.storage.stages.checkpoint_tools import Opener, worths

HANG_S = 240.0


@pytest.fixture
def in_bucket(database: Database, bucket: Bucket) -> Iterator[Opener]:
    """Opens the checkpoints of a bucket as one more living worker sees them."""
    with ExitStack() as stack:

        def open_store(budget: int | None = None) -> CheckpointStore:
            session = stack.enter_context(worker_session(database.url))
            files = CheckpointFiles(f"{bucket.url}/check points", database.read_id())
            store = CheckpointStore(database, files, session.worker, budget)
            return stack.enter_context(closing(store))

        yield open_store


def test_workers_share_a_bucket(in_bucket: Opener) -> None:
    one, other = in_bucket(), in_bucket()
    assert one.find(["a"]) == {}
    one.write("a", b"state", is_end=False)
    assert other.find(["a", "b"]) == {"a": True}
    assert other.read("a") == b"state"
    assert other.place_id == one.place_id
    assert one.budget_bytes == LARGEST_DEFAULT_BYTES
    one.discard(["a"])
    with pytest.raises(CheckpointMissError):
        other.read("a")


def test_one_place_has_one_id_whoever_comes_first(in_bucket: Opener) -> None:
    stores = [in_bucket() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda store: store.place_id, stores))) == 1


def test_the_budget_holds_and_crashes_are_cleared_up(in_bucket: Opener, bucket: Bucket) -> None:
    store = in_bucket(25)
    for key in ("a", "b", "c"):
        store.write(key, b"ten bytes.", is_end=False)
    assert set(worths(store)) == {"b", "c"}
    [marker] = [key for key in bucket.keys("") if key.endswith(".json")]
    folder = marker.rpartition("/")[0]
    bucket.put(f"{folder}/orphan.pt", b"1234")
    bucket.begin_upload(f"{folder}/b.pt", b"12345")
    bucket.begin_upload("somebody elses", b"1")
    bucket.remove(f"{folder}/c.pt")

    counted = store.collect(dry_run=True)
    found = store.collect()
    assert counted == found
    assert (found.orphans, found.lost, found.evicted, found.freed_bytes) == (2, 1, 0, 9)
    assert bucket.keys("") == [f"{folder}/b.pt", marker]
    assert bucket.uploads() == ["somebody elses"]
    assert store.collect().freed_bytes == 0


def test_an_upload_that_is_under_way_is_left_alone(
    in_bucket: Opener, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = in_bucket()
    real = CheckpointFiles.write

    def collect_meanwhile(self: CheckpointFiles, key: str, content: bytes) -> None:
        bucket.begin_upload(self._place.path(self._name(f"{key}.pt")).partition("/")[2], b"12")
        assert other.collect().orphans == 0
        real(self, key, content)

    monkeypatch.setattr(CheckpointFiles, "write", collect_meanwhile)
    in_bucket().write("a", b"state", is_end=False)
    assert len(bucket.uploads()) == 1


@pytest.mark.parametrize("method", ["write", "remove", "names", "read"])
def test_no_transaction_is_open_while_a_place_is_at_work(
    opened: Opener, database: Database, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends one that lies idle for half a minute."""
    idle = sqlalchemy.text("""
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'
    """)
    asked: list[int] = []
    real = getattr(CheckpointFiles, method)

    beside = sqlalchemy.create_engine(database.url, poolclass=sqlalchemy.NullPool)

    def look(self: CheckpointFiles, *arguments: Any) -> Any:
        with beside.connect() as connection:
            asked.append(connection.execute(idle).scalar_one())
        return real(self, *arguments)

    monkeypatch.setattr(CheckpointFiles, method, look)
    store = opened(5)
    store.write("a", b"state", is_end=False)
    store.write("b", b"state", is_end=False)
    store.read("b")
    store.discard(["b"])
    store.collect()
    assert asked
    assert set(asked) == {0}


def test_a_place_that_is_slow_when_it_is_used_first_has_its_time(
    opened: Opener, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server bears with this one transaction for longer than with others."""
    monkeypatch.setattr("canopy_search.storage.connection.urls.IDLE_LIMIT_S", 31.0)
    real, begun, limits = CheckpointFiles.make_marker, [], []

    def look(self: CheckpointFiles) -> str:
        limits.append(idle_limit(begun[-1]))
        return real(self)

    monkeypatch.setattr(CheckpointFiles, "make_marker", look)
    database.engine.dispose()
    sqlalchemy.event.listen(database.engine, "begin", begun.append)
    assert opened().place_id == opened().place_id
    with database.engine.connect() as connection:
        assert [*limits, idle_limit(connection)] == ["5min", "31s"]


def idle_limit(connection: sqlalchemy.Connection) -> object:
    show = sqlalchemy.text("SHOW idle_in_transaction_session_timeout")
    return connection.scalar(show)


def test_who_writes_what_is_being_removed_waits_until_it_is_gone(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = opened(), opened()
    store.write("a", b"old", is_end=False)
    real, removing, may_go = CheckpointFiles.remove, threading.Event(), threading.Event()

    def slow(self: CheckpointFiles, key: str) -> None:
        removing.set()
        assert may_go.wait(HANG_S)
        real(self, key)

    waits, reserve = threading.Event(), other._evict_and_reserve

    def look(*arguments: Any, **options: Any) -> list[str] | None:
        found = reserve(*arguments, **options)
        if found is None:
            waits.set()
        return found

    monkeypatch.setattr(CheckpointFiles, "remove", slow)
    monkeypatch.setattr(other, "_evict_and_reserve", look)
    with ThreadPoolExecutor(2) as pool:
        removal = pool.submit(store.discard, ["a"])
        assert removing.wait(HANG_S)
        assert other.find(["a"]) == {}
        writing = pool.submit(other.write, "a", b"new", is_end=False)
        assert waits.wait(HANG_S)
        assert not writing.done()
        may_go.set()
        removal.result(HANG_S)
        writing.result(HANG_S)
    assert store.read("a") == b"new"


def test_what_cannot_be_removed_now_can_be_written_and_is_collected(
    opened: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    for key in ("a", "b"):
        store.write(key, b"old", is_end=False)

    def away(self: CheckpointFiles, key: str) -> None:
        raise FileStoreUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFiles, "remove", away)
        for key in ("a", "b"):
            with pytest.raises(OSError, match="away"):
                store.discard([key])
    assert store.find(["a", "b"]) == {}
    store.write("a", b"new", is_end=False)
    assert store.collect().lost == 1
    assert [path.name for path in folder.glob("*/*.pt")] == ["a.pt"]
    assert store.read("a") == b"new"


def test_a_bucket_that_is_gone_for_now_loses_no_record(
    in_bucket: Opener, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That there is no bucket does not mean that a checkpoint is gone from it."""
    store = in_bucket()
    store.write("a", b"state", is_end=False)
    with monkeypatch.context() as patch:
        patch.setattr(store._files._place, "path", lambda name="": f"{bucket.name}-not/{name}")
        with pytest.raises(FileStoreRefusedError, match="no such bucket"):
            store.read("a")
    assert store.read("a") == b"state"


def test_a_place_that_does_not_answer_is_let_alone_for_a_while(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(bucket.server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    files = CheckpointFiles(bucket.url, "id")
    files.write("a", b"state")
    proxy.shut()
    with pytest.raises(FileStoreUnavailableError) as first:
        files.read("a")
    proxy.open()
    with pytest.raises(FileStoreUnavailableError) as second:
        files.read("a")
    assert str(first.value) == str(second.value)
    assert files._unavailable is not None
    now_s = files._unavailable[0]
    monkeypatch.setattr(checkpoint_files.time, "monotonic", lambda: now_s)
    assert files.read("a") == b"state"
    files.close()
    proxy.shut()
