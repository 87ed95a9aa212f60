"""A backend in memory: a test controls its workers, and no time passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from canopy_search.search.errors import SearchFailedError
from canopy_search.search.workers.backend import PlacedWorker, WorkerEvent, WorkerSlot


@dataclass
class InMemoryWorker:
    """A worker whose events and end are controlled by a test.

    Attributes:
        slot: slot of the worker.
        is_waiting: whether it is still queued.
        obeys: whether it leaves when asked to.
    """

    slot: WorkerSlot
    is_waiting: bool = False
    obeys: bool = True
    events: list[WorkerEvent] = field(default_factory=list)
    ending: str | None = None
    was_asked_to_leave: bool = False
    was_killed: bool = False
    is_closed: bool = False

    def emit(self, name: str, *arguments: Any, worker_id: str = "") -> None:
        self.events.append(WorkerEvent(name, arguments, worker_id))

    def end(self, ending: str = "ended") -> None:
        self.ending = ending

    def poll(self) -> list[WorkerEvent]:
        events, self.events = self.events, []
        return events

    def end_text(self) -> str | None:
        return self.ending

    def leave(self) -> None:
        self.was_asked_to_leave = True
        if self.obeys:
            self.emit("log", "leaves\n")
            self.end("was asked to leave")

    def kill(self) -> None:
        self.was_killed = True
        self.end("was killed")

    def close(self) -> None:
        self.is_closed = True


@dataclass
class InMemoryBackend:
    """Places workers in memory.

    Attributes:
        available: slots that it has.
        one_machine: as in `Backend`.
        script: called whenever the launcher waits; may raise to end it.
        on_place: called with every placed worker.
    """

    available: list[WorkerSlot]
    one_machine: bool = False
    script: Callable[["InMemoryBackend"], None] = lambda _backend: None
    on_place: Callable[[InMemoryWorker], None] = lambda _worker: None
    leave_s: float = 0.0
    placed: list[InMemoryWorker] = field(default_factory=list)
    is_lost: bool = False

    def slots(self) -> Sequence[WorkerSlot]:
        if self.is_lost:
            raise SearchFailedError("the cluster is lost")
        return list(self.available)

    def place(self, slot: WorkerSlot, log: Path) -> PlacedWorker:
        worker = InMemoryWorker(slot)
        self.placed.append(worker)
        self.on_place(worker)
        return worker

    def wait(self, workers: Sequence[PlacedWorker], timeout_s: float) -> None:
        self.script(self)

    def close(self) -> None:
        raise AssertionError("the launcher must not close the backend, because it does not open it")

    def on(self, key: str) -> InMemoryWorker:
        """Returns the last worker placed on a slot."""
        return next(worker for worker in reversed(self.placed) if worker.slot.key == key)


class RecordedScreen:
    """A screen that records its events."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.gone: list[str] = []
        self.notes: list[str] = []

    def emit(self, worker: str, event: str, *arguments: Any) -> None:
        self.events.append((worker, event, *arguments))

    def worker_gone(self, worker: str) -> None:
        self.gone.append(worker)

    def note(self, text: str) -> None:
        self.notes.append(text)
