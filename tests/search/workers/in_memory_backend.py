"""A backend in memory: a test controls its jobs, and no time passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from canopy_search.search.errors import SearchFailedError
from canopy_search.search.events import Ending, Event, Note, WorkerEnded
from canopy_search.search.workers.backend import Job, JobEvent, WorkerSlot


@dataclass(eq=False)
class InMemoryJob:
    """A job whose events and end are controlled by a test.

    Attributes:
        slot: slot of the job.
        worker_ids: ids of its workers in the database.
        is_waiting: whether it is still queued.
        obeys: whether it leaves when asked to.
    """

    slot: WorkerSlot
    worker_ids: Sequence[int] = ()
    is_waiting: bool = False
    obeys: bool = True
    events: list[Event] = field(default_factory=list)
    is_over: bool = False
    was_cancelled: bool = False
    was_killed: bool = False

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def end(self, ending: Ending, reason: str = "") -> None:
        self.is_over = True
        self.emit(WorkerEnded(ending, reason))

    def cancel(self) -> None:
        self.was_cancelled = True
        if self.obeys:
            self.end(Ending.LEFT, "was asked to leave")

    def kill(self) -> None:
        self.was_killed = True


@dataclass
class InMemoryBackend:
    """Runs jobs in memory.

    Attributes:
        available: slots that it has.
        one_machine: as in `Backend`.
        script: called whenever the launcher waits; may raise to end it.
        on_submit: called with every job.
    """

    available: list[WorkerSlot]
    one_machine: bool = False
    script: Callable[["InMemoryBackend"], None] = lambda _backend: None
    on_submit: Callable[[InMemoryJob], None] = lambda _job: None
    leave_s: float = 0.0
    jobs: list[InMemoryJob] = field(default_factory=list)
    is_lost: bool = False

    def slots(self) -> Sequence[WorkerSlot]:
        if self.is_lost:
            raise SearchFailedError("the cluster is lost")
        return list(self.available)

    def submit(self, slot: WorkerSlot, log: Path) -> Job:
        job = InMemoryJob(slot, [100 * len(self.jobs), 100 * len(self.jobs) + 1])
        self.jobs.append(job)
        self.on_submit(job)
        return job

    def events(self, timeout_s: float) -> Sequence[JobEvent]:
        self.script(self)
        events = [JobEvent(job, event) for job in self.jobs for event in job.events]
        for job in self.jobs:
            job.events = []
        return events

    def close(self) -> None:
        raise AssertionError("the launcher must not close the backend, because it does not open it")

    def on(self, key: str) -> InMemoryJob:
        """Returns the last job on a slot."""
        return next(job for job in reversed(self.jobs) if job.slot.key == key)


class RecordedScreen:
    """A screen that records its events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Event]] = []

    def show(self, worker: str, event: Event) -> None:
        self.events.append((worker, event))

    @property
    def notes(self) -> list[str]:
        return [event.text for _, event in self.events if isinstance(event, Note)]

    @property
    def gone(self) -> list[str]:
        return [worker for worker, event in self.events if isinstance(event, WorkerEnded)]
