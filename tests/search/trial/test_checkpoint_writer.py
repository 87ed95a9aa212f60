import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.trial.checkpoint_writer import CheckpointWriter
from canopy_search.storage.errors import CheckpointBudgetError, CheckpointMissError
from canopy_search.storage.stages.checkpoints import Collected
from canopy_search.training.checkpoint import RunState
from tests.waiting import HANG_S


class Store:
    """Checkpoints in memory, as slow and as faulty as a test wants them."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.is_writing = threading.Event()
        self.may_write = threading.Event()
        self.may_write.set()
        self.fault: Exception | None = None
        self.threads: set[str] = set()
        self.given_up: list[str] = []
        self.collected = self.lost = 0

    def write(self, key: str, content: bytes, *, is_end: bool) -> None:
        self.threads.add(threading.current_thread().name)
        self.is_writing.set()
        assert self.may_write.wait(HANG_S)
        if self.fault is not None:
            raise self.fault
        self.contents[key] = content

    def give_up(self, key: str) -> None:
        self.given_up.append(key)

    def collect(self) -> Collected:
        self.collected += 1
        return Collected(orphans=1, lost=self.lost, evicted=0, freed_bytes=7)

    def find(self, keys: Sequence[str]) -> dict[str, bool]:
        if isinstance(self.fault, ConnectionError):
            raise self.fault
        return {key: True for key in keys if key in self.contents}

    def read(self, key: str) -> bytes:
        if key not in self.contents:
            raise CheckpointMissError("its file is missing")
        return self.contents[key]

    def discard(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.contents.pop(key, None)


def state(epoch: int = 1, value: float = 1.0) -> RunState:
    tensor = torch.full((3,), value)
    return RunState(
        epoch=epoch, model={"w": tensor}, optimizer={"state": {0: {"m": tensor}}}, scaler={}
    )


@contextmanager
def opened(
    store: Store, retry_for_s: float = HANG_S
) -> Iterator[tuple[CheckpointWriter, list[str]]]:
    notes: list[str] = []
    writer = CheckpointWriter(store, notes.append, retry_for_s=retry_for_s)
    try:
        yield writer, notes
    finally:
        store.may_write.set()
        writer.close()


def test_what_is_submitted_is_loaded_and_written_elsewhere() -> None:
    store = Store()
    with opened(store) as (writer, notes):
        writer.submit("a", state(3, 0.25), is_end=False)
        loaded = writer.load("a", 3)
    assert loaded is not None
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["model"]["w"], torch.full((3,), 0.25))
    assert store.threads == {"canopy checkpoints"}
    assert store.collected == 1, "what a crash left behind goes first"
    assert notes == []


def test_what_is_lost_is_told_once_and_before_anything_is_looked_for(
    words: SnapshotAssertion,
) -> None:
    store = Store()
    store.lost = 2
    with opened(store) as (writer, notes):
        writer.find(["a"])
        writer.find(["a"])
    assert notes == words


def test_training_does_not_wait_and_its_later_steps_do_not_show() -> None:
    store = Store()
    store.may_write.clear()
    with opened(store) as (writer, _):
        live = state(1, 1.0)
        writer.submit("a", live, is_end=False)
        live["model"]["w"].fill_(9.0)  # the run goes on in place
        live["optimizer"]["state"][0]["m"].fill_(9.0)
        assert store.contents == {}
        store.may_write.set()
        loaded = writer.load("a", 1)
    assert loaded is not None
    assert torch.equal(loaded["model"]["w"], torch.ones(3))
    assert torch.equal(loaded["optimizer"]["state"][0]["m"], torch.ones(3))


def test_everything_is_written_before_it_closes() -> None:
    store = Store()
    with opened(store) as (writer, _):
        for number in range(5):
            writer.submit(str(number), state(), is_end=False)
    assert sorted(store.contents) == list("01234")


def test_a_place_that_hangs_is_not_waited_for_for_ever(words: SnapshotAssertion) -> None:
    store = Store()
    store.may_write.clear()
    with opened(store, retry_for_s=0.2) as (writer, notes):
        writer.submit("0", state(), is_end=False)
        assert store.is_writing.wait(HANG_S)
        for number in range(1, 5):
            writer.submit(str(number), state(), is_end=False)
        assert store.given_up == ["3", "4"], "one is being written, two wait"
        assert writer.load("0", 1) is None
        assert writer.waited_s > 0.2
    assert notes == words


@pytest.mark.parametrize(
    "fault",
    [
        OSError(28, "No space left on device"),
        PermissionError(13, "Permission denied"),
        MemoryError("none left"),
        CheckpointBudgetError("9 MiB do not fit"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_trouble_is_told_once_on_the_thread_that_trains(
    fault: Exception, words: SnapshotAssertion
) -> None:
    store = Store()
    store.fault = fault
    with opened(store) as (writer, notes):
        for number in range(3):
            writer.submit(str(number), state(), is_end=False)
        writer.flush()
        assert notes == words
        assert len(notes) == 1
        store.fault = None
        writer.submit("later", state(), is_end=False)
        writer.flush()
        assert "later" in store.contents


def test_no_room_for_the_end_of_a_run_is_no_trouble() -> None:
    store = Store()
    store.fault = CheckpointBudgetError("full")
    with opened(store) as (writer, notes):
        writer.submit("a", state(), is_end=True)
        writer.flush()
    assert notes == []


def test_a_bucket_that_is_away_is_a_miss(words: SnapshotAssertion) -> None:
    store = Store()
    store.fault = ConnectionError("bucket away")
    with opened(store) as (writer, notes):
        assert writer.find(["a"]) == set()
        assert writer.find(["a"]) == set()
    assert notes == words


def test_bytes_that_are_no_state_are_a_miss(words: SnapshotAssertion) -> None:
    store = Store()
    store.contents["a"] = b"not torch's"
    with opened(store) as (writer, notes):
        assert writer.load("a", 4) is None
    assert notes == words
