"""Interface of the backends that place workers for the launcher."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from canopy_search.search.study.plan import SearchPlan

ENDED = "ended"
"""The whole study has nothing left to do."""
FAILED = "failed"
"""The worker cannot continue; the arguments are the reason, and whether it affects all workers."""
LEFT = "left"
"""The worker left before the study was finished; the argument is the reason."""
LOG = "log"
"""The argument is text for the worker's log."""
GONE = "worker_gone"
"""One of several workers of a slot ended; the others still run."""


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


class WorkerEvent(NamedTuple):
    """One event of a worker.

    Attributes:
        name: `ENDED`, `FAILED`, `LEFT`, `LOG`, `GONE`, or a method of `SearchWatcher`.
        arguments: arguments of the event.
        worker_id: which of several workers of the slot, as a suffix of the slot's name.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    worker_id: str = ""


class PlacedWorker(Protocol):
    """A worker that a backend has placed."""

    @property
    def is_waiting(self) -> bool:
        """Whether the worker is still queued by the backend."""

    def poll(self) -> list[WorkerEvent]:
        """Returns the events since the last call; does not wait."""

    def end_text(self) -> str | None:
        """Returns how it ended, as in ``was killed by SIGKILL``; None while it runs."""

    def leave(self) -> None:
        """Asks it to leave."""

    def kill(self) -> None:
        """Kills it."""

    def close(self) -> None:
        """Releases its resources after it has ended."""


class Backend(Protocol):
    """Places workers on the slots it offers."""

    leave_s: float
    """Seconds that workers have to leave before they are killed."""

    one_machine: bool
    """Whether a problem of one worker affects all others, because they share one machine."""

    def slots(self) -> Sequence[WorkerSlot]:
        """Returns the slots available now; a slot that is missing since the last call is lost.

        Raises:
            SearchFailedError: the backend is lost.
        """

    def place(self, slot: WorkerSlot, log: Path) -> PlacedWorker:
        """Places a worker.

        Args:
            slot: one of those returned by `slots`.
            log: file for its log. The caller writes the text of `LOG` events there.
        """

    def wait(self, workers: Sequence[PlacedWorker], timeout_s: float) -> None:
        """Returns when one of them has sent an event or ended, or after the timeout."""

    def close(self) -> None:
        """Closes the backend; no worker is left."""


class Placement(Protocol):
    """A requested backend on other machines."""

    def open(self, plan: SearchPlan, url: str | None, note: Callable[[str], None]) -> Backend:
        """Opens the backend.

        Args:
            plan: plan of the search.
            url: URL of the database; None for the embedded one.
            note: receives messages for the user.

        Raises:
            PlacementError: the backend cannot be used, or not with this database.
        """
