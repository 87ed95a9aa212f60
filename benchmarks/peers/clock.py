"""The simulated clock: a scheduler's own code decides, epochs are looked up and cost no time.

Workers are as fast as the table says, each alone. A scheduler takes part by three methods; what it
is told, and in which order, is what its own loop would have told it.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from benchmarks.peers.record import EpochEntry
from canopy_search.search.simulation.curves import CurvePoint


class Decision(Enum):
    """What becomes of a trial after an epoch."""

    GO_ON = "goes on"
    STOP = "is stopped"
    PAUSE = "pauses"


@dataclass(frozen=True)
class Begun:
    """A trial that a worker begins, or goes on with.

    Attributes:
        trial: counts from 0.
        params: backbone, loss and gamma.
    """

    trial: int
    params: dict[str, Any]


class Scheduler(Protocol):
    """A peer's scheduler."""

    def next_trial(self) -> Begun | None:
        """Returns what a free worker does next; None to leave it idle until something happens."""

    def report(self, trial: int, epoch: int, val_ap: float) -> Decision:
        """Takes the result of an epoch."""

    def complete(self, trial: int, epoch: int, val_ap: float) -> None:
        """Is told that a trial has had its last epoch, unless `report` stopped it there."""


def run_clock(
    scheduler: Scheduler,
    curve_of: Callable[[dict[str, Any]], Sequence[CurvePoint]],
    workers: int,
    seed: int,
) -> list[EpochEntry]:
    """Runs a search until no worker has anything to do.

    Args:
        scheduler: decides.
        curve_of: the learning curve of a setting.
        workers: that train at once.
        seed: for the entries.

    Returns:
        Every epoch, in the order in which they end.
    """
    entries: list[EpochEntry] = []
    reached: dict[int, int] = {}  # trial → epochs that it has had
    events: list[tuple[float, int, int, int, Begun]] = []
    now, idle, order = 0.0, workers, 0

    def train(begun: Begun) -> None:
        nonlocal order
        epoch = reached.get(begun.trial, 0)
        order += 1
        ends_s = now + curve_of(begun.params)[epoch].seconds
        heapq.heappush(events, (ends_s, order, begun.trial, epoch + 1, begun))

    while True:
        while idle and (begun := scheduler.next_trial()) is not None:
            idle -= 1
            train(begun)
        if not events:
            return entries
        now, _, trial, epoch, begun = heapq.heappop(events)
        curve = curve_of(begun.params)
        point = curve[epoch - 1]
        val_ap = point.val_ap if point.val_ap is not None else float("nan")
        reached[trial] = epoch
        entries.append(EpochEntry(seed, trial, epoch, val_ap, now, point.seconds, begun.params))
        decision = scheduler.report(trial, epoch, val_ap)
        if decision is Decision.GO_ON and epoch == len(curve):
            scheduler.complete(trial, epoch, val_ap)
        if decision is Decision.GO_ON and epoch < len(curve):
            train(begun)
        else:
            idle += 1
