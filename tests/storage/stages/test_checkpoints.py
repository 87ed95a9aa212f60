from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.database import Database
from canopy_search.storage.errors import CheckpointBudgetError, CheckpointMissError
from canopy_search.storage.stages.checkpoint_files import CheckpointFiles
from canopy_search.storage.stages.checkpoints import CheckpointStore
from canopy_search.storage.stages.stages import Stage
from canopy_search.storage.workers.session import worker_session
from tests.storage.stages.checkpoint_tools import Opener, announcing, path_of


def test_what_is_written_is_read_by_another_worker(opened: Opener) -> None:
    opened().write("a", b"state", is_end=False)
    assert opened().find(["a", "b"]) == {"a": True}
    assert opened().read("a") == b"state"
    assert opened().stored_bytes() == 5


SPOILT: dict[str, Callable[[Path], Any]] = {
    "gone": lambda path: path.unlink(),
    "cut": lambda path: path.write_bytes(b"sta"),
    "altered": lambda path: path.write_bytes(b"stAte"),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_checkpoint_is_a_miss_once(
    opened: Opener, folder: Path, how: str, words: SnapshotAssertion
) -> None:
    store = opened()
    store.write("a", b"state", is_end=False)
    SPOILT[how](path_of(folder, "a"))
    with pytest.raises(CheckpointMissError) as error:
        store.read("a")
    assert str(error.value) == words
    assert store.find(["a"]) == {}
    assert not list(folder.glob("*/*.pt"))
    store.write("a", b"state", is_end=False)
    assert store.read("a") == b"state"


def test_a_place_that_cannot_be_read_now_loses_nothing(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.write("a", b"state", is_end=False)

    def away(self: CheckpointFiles, key: str) -> bytes:
        raise ConnectionError("bucket away")

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFiles, "read", away)
        with pytest.raises(OSError, match="bucket away"):
            store.read("a")
    assert store.read("a") == b"state"


def test_a_place_that_cannot_be_written_to_records_nothing(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: CheckpointFiles, key: str, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CheckpointFiles, "write", full)
    store = opened()
    with pytest.raises(OSError, match="No space left"):
        store.write("a", b"state", is_end=False)
    assert store.entries() == []


def test_what_is_being_written_is_awaited_and_what_a_dead_worker_wrote_is_not(
    opened: Opener, database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, bool]] = []
    other = opened()

    def look(self: CheckpointFiles, key: str, content: bytes) -> None:
        seen.append(other.find(["a"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointFiles, "write", look)
    with worker_session(database.url) as session:
        dying = CheckpointStore(
            database, CheckpointFiles(str(folder), database.read_id()), session.worker
        )
        monkeypatch.setattr(dying, "give_up", lambda key: None)  # it dies before it can
        with pytest.raises(KeyboardInterrupt):
            dying.write("a", b"state", is_end=False)
    assert seen == [{"a": False}]
    assert other.find(["a"]) == {}
    assert other.collect().lost == 1
    assert other.entries() == []


def test_a_stage_is_recorded_with_the_promise_of_its_checkpoint(
    opened: Opener, database: Database
) -> None:
    """Whoever leaves the trunk in that moment waits for the file instead of training again."""
    store = opened()
    promising = announcing(database, store)

    def promise(stage: Stage, parent: str | None) -> None:
        promising.write([promising.recording(stage, parent, place=store.place_id)])

    promise(Stage("a", 1, {"val_ap": 0.5}), None)
    assert opened().find(["a"]) == {"a": False}
    store.write("a", b"state", is_end=False)
    promise(Stage("a", 1, {"val_ap": 0.5}), None)
    assert opened().find(["a"]) == {"a": True}

    promise(Stage("b", 2, {"val_ap": 0.5}), "a")
    store.give_up("b")
    store.give_up("a")  # which is whole and stays
    assert opened().find(["a", "b"]) == {"a": True}


def test_what_cannot_be_written_is_promised_no_longer(opened: Opener, database: Database) -> None:
    store = opened(3)
    promising = announcing(database, store)

    def promise(stage: Stage, parent: str | None) -> None:
        promising.write([promising.recording(stage, parent, place=store.place_id)])

    promise(Stage("a", 1, {"val_ap": 0.5}), None)
    with pytest.raises(CheckpointBudgetError):
        store.write("a", b"state", is_end=False)
    assert store.entries() == []


def test_a_failed_write_leaves_alone_what_another_worker_wrote(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was frozen while it wrote wakes up after another one did its work."""
    real, other = CheckpointFiles.write, opened()

    def overtaken(self: CheckpointFiles, key: str, content: bytes) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(CheckpointFiles, "write", real)
            other.write(key, content, is_end=False)
        raise OSError("disk gone")

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFiles, "write", overtaken)
        with pytest.raises(OSError, match="disk gone"):
            opened().write("a", b"state", is_end=False)
    assert other.read("a") == b"state"


def test_a_folder_in_place_of_a_checkpoint(opened: Opener, folder: Path) -> None:
    store = opened()
    store.write("a", b"state", is_end=False)
    path = path_of(folder, "a")
    path.unlink()
    path.mkdir()
    with pytest.raises(CheckpointMissError):
        store.read("a")
    with pytest.raises(OSError, match="directory"):
        store.write("a", b"state", is_end=False)
    assert store.entries() == []
    assert store.collect().orphans == 0
    assert path.is_dir()
    assert not list(path.parent.glob("*.part"))


def test_places_are_told_apart(opened: Opener, database: Database, tmp_path: Path) -> None:
    """Two machines with a disk of their own and one database."""
    opened().write("a", b"state", is_end=False)
    elsewhere = CheckpointFiles(str(tmp_path / "elsewhere"), database.read_id())
    other = CheckpointStore(database, elsewhere, 1)
    assert other.find(["a"]) == {}
    assert other.stored_bytes() == 0
    other.write("a", b"other", is_end=False)
    assert opened().read("a") == b"state"


def test_a_folder_that_moved_keeps_its_checkpoints(
    opened: Opener, database: Database, folder: Path
) -> None:
    opened().write("a", b"state", is_end=False)
    folder.rename(folder.with_name("moved"))
    moved = CheckpointFiles(str(folder.with_name("moved")), database.read_id())
    assert CheckpointStore(database, moved, 1).read("a") == b"state"
