"""What an engine that places workers has to do for the launcher."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from canopy_search.search.study.plan import SearchPlan

ENDED = "ended"
"""Nothing is left to do in the whole study."""
FAILED = "failed"
"""The worker cannot go on; the arguments are why not, and whether that is so for all workers."""
LEFT = "left"
"""The worker has left though something is left to do; the argument is why."""
LOG = "log"
"""The argument belongs to the worker's log."""
GONE = "worker_gone"
"""One of several workers of a post is over, and the others are not."""


@dataclass(frozen=True)
class WorkerSlot:
    """A place for one worker, or for the workers that share a device.

    Attributes:
        key: tells it from all others, also from those of other machines.
        device: for people.
        host: the machine; empty for this one.
    """

    key: str
    device: str
    host: str = ""


class WorkerEvent(NamedTuple):
    """One thing that a worker has told.

    Attributes:
        name: `ENDED`, `FAILED`, `LEFT`, `LOG`, `GONE`, or a method of `SearchWatcher`.
        arguments: what goes with it.
        worker_id: which of several workers of the post, as an ending of the post's name.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    worker_id: str = ""


class PlacedWorker(Protocol):
    """A worker that an engine has placed."""

    @property
    def is_waiting(self) -> bool:
        """Whether the engine has had no room for it yet."""

    def poll(self) -> list[WorkerEvent]:
        """Returns what it has told since the last time; does not wait."""

    def end_text(self) -> str | None:
        """Returns how it ended, as in ``was killed by SIGKILL``; None while it has not."""

    def leave(self) -> None:
        """Tells it to leave."""

    def kill(self) -> None:
        """Ends it, whatever it is at."""

    def close(self) -> None:
        """Lets go of what belongs to it; it has ended."""


class Backend(Protocol):
    """Places workers, and says where it could."""

    leave_s: float
    """Workers that are told to leave have as long as this."""

    one_machine: bool
    """Whether what keeps one worker from working keeps all others, too."""

    def slots(self) -> Sequence[WorkerSlot]:
        """Returns where workers can be now; what is not among them any more is lost.

        Raises:
            SearchFailedError: the engine is lost.
        """

    def place(self, slot: WorkerSlot, log: Path) -> PlacedWorker:
        """Places a worker.

        Args:
            slot: one that `slots` gave.
            log: the file for its log. What tells of `LOG` is written there by the caller.
        """

    def wait(self, workers: Sequence[PlacedWorker], timeout_s: float) -> None:
        """Returns when one of them has told something or has ended, or when the time is up."""

    def close(self) -> None:
        """Lets go of the engine; no worker is left."""


class Placement(Protocol):
    """An engine on other machines, as it was asked for."""

    def open(self, plan: SearchPlan, url: str | None, note: Callable[[str], None]) -> Backend:
        """Opens the engine.

        Args:
            plan: of the search.
            url: of the database; None for the embedded one.
            note: is told what a person should know.

        Raises:
            PlacementError: it cannot be used, or not with such a database.
        """
