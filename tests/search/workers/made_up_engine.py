"""An engine that exists only in memory: its workers do what a test says, and no time passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from canopy_search.search.errors import SearchFailedError
from canopy_search.search.workers.backend import PlacedWorker, WorkerEvent, WorkerSlot


@dataclass
class MadeUpWorker:
    """A worker of whom a test decides what it tells and when it ends.

    Attributes:
        slot: that it is on.
        is_waiting: whether there is no room for it.
        obeys: whether it leaves when it is told to.
    """

    slot: WorkerSlot
    is_waiting: bool = False
    obeys: bool = True
    news: list[WorkerEvent] = field(default_factory=list)
    how: str | None = None
    was_told_to_leave: bool = False
    was_killed: bool = False
    is_closed: bool = False

    def emit(self, name: str, *arguments: Any, worker_id: str = "") -> None:
        self.news.append(WorkerEvent(name, arguments, worker_id))

    def end(self, how: str = "ended") -> None:
        self.how = how

    def poll(self) -> list[WorkerEvent]:
        event, self.news = self.news, []
        return event

    def end_text(self) -> str | None:
        return self.how

    def leave(self) -> None:
        self.was_told_to_leave = True
        if self.obeys:
            self.emit("log", "leaves\n")
            self.end("was told to leave")

    def kill(self) -> None:
        self.was_killed = True
        self.end("was killed")

    def close(self) -> None:
        self.is_closed = True


@dataclass
class MadeUpEngine:
    """Places workers in memory.

    Attributes:
        there: the posts that it has.
        one_machine: as in `Backend`.
        script: is called whenever the launcher waits, and may raise to end it.
        begin: is called with every worker that is placed.
    """

    there: list[WorkerSlot]
    one_machine: bool = False
    script: Callable[["MadeUpEngine"], None] = lambda _backend: None
    begin: Callable[[MadeUpWorker], None] = lambda _worker: None
    leave_s: float = 0.0
    placed: list[MadeUpWorker] = field(default_factory=list)
    is_lost: bool = False

    def slots(self) -> Sequence[WorkerSlot]:
        if self.is_lost:
            raise SearchFailedError("the cluster is lost")
        return list(self.there)

    def place(self, slot: WorkerSlot, log: Path) -> PlacedWorker:
        worker = MadeUpWorker(slot)
        self.placed.append(worker)
        self.begin(worker)
        return worker

    def wait(self, workers: Sequence[PlacedWorker], timeout_s: float) -> None:
        self.script(self)

    def close(self) -> None:
        raise AssertionError("the launcher does not open the engine, and does not close it")

    def on(self, key: str) -> MadeUpWorker:
        """Returns the last worker that was placed on a post."""
        return next(worker for worker in reversed(self.placed) if worker.slot.key == key)


class Recorded:
    """A screen that remembers what it was given."""

    def __init__(self) -> None:
        self.event: list[tuple[Any, ...]] = []
        self.gone: list[str] = []
        self.notes: list[str] = []

    def emit(self, worker: str, event: str, *arguments: Any) -> None:
        self.event.append((worker, event, *arguments))

    def worker_gone(self, worker: str) -> None:
        self.gone.append(worker)

    def note(self, text: str) -> None:
        self.notes.append(text)
