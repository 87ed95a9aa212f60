"""Interface of the backends that run workers for the launcher."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from canopy_search.search.events import Event
from canopy_search.search.study.plan import SearchPlan


@dataclass(frozen=True)
class WorkerSlot:
    """A slot for one worker, or for the workers that share a device.

    Attributes:
        key: unique among the slots of all machines.
        device: device name to display.
        host: machine name; empty for this machine.
    """

    key: str
    device: str
    host: str = ""


class Job(Protocol):
    """A worker that a backend runs, or the workers that share a device."""

    @property
    def worker_ids(self) -> Sequence[int]:
        """Ids of its workers in the database; empty if `Backend.events` returns their events."""

    @property
    def is_waiting(self) -> bool:
        """Whether it has not started."""

    def cancel(self) -> None:
        """Asks it to leave."""

    def kill(self) -> None:
        """Kills it."""


class JobEvent(NamedTuple):
    """An event of a job; `WorkerEnded` is the last one."""

    job: Job
    event: Event


class Backend(Protocol):
    """Runs jobs on the slots it offers."""

    leave_s: float
    """Seconds that jobs have to leave before they are killed."""

    one_machine: bool
    """Whether all workers run on this machine, where they write their logs."""

    def slots(self) -> Sequence[WorkerSlot]:
        """Returns the slots available now; a slot that is missing since the last call is lost.

        Raises:
            SearchFailedError: the backend is lost.
        """

    def submit(self, slot: WorkerSlot, log: Path) -> Job:
        """Submits a job.

        Args:
            slot: one of those returned by `slots`.
            log: file for its log, if it runs on this machine.
        """

    def events(self, timeout_s: float) -> Sequence[JobEvent]:
        """Returns the events since the last call; waits until there is one, or the timeout."""

    def close(self) -> None:
        """Closes the backend; no job is left."""


class Placement(Protocol):
    """A requested backend on other machines."""

    def open(self, plan: SearchPlan, note: Callable[[str], None]) -> Backend:
        """Opens the backend.

        Args:
            plan: plan of the search.
            note: receives messages for the user.

        Raises:
            PlacementError: the backend cannot be used, or not with this database.
        """
