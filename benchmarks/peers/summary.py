"""Records of searches → what each found, when, and what it cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from benchmarks.peers.record import EpochEntry


@dataclass(frozen=True)
class Costs:
    """How a peer's real searches are slower than the table, and what they take outside of epochs.

    Attributes:
        epoch_factor: seconds of one of its epochs, by the table's seconds of the same epochs.
        trial_s: a worker's time outside of epochs for each trial, in seconds.
        start_s: from the command to the first trial, in seconds.
        peak_mib: largest size of all its processes in memory together; None if it was not measured.
    """

    epoch_factor: float = 1.0
    trial_s: float = 0.0
    start_s: float = 0.0
    peak_mib: float | None = None


@dataclass(frozen=True)
class SearchRun:
    """One search.

    Attributes:
        seed: its seed.
        finish_s: when its last epoch was known.
        trials: that were begun.
        reported: epochs of all trials.
        trained: those of them that were trained.
        trained_s: training and validation time of these.
        best_ap: the best AP of a trial that had all its epochs; None if there is none.
        winner: its setting.
        improvements: (seconds, AP) whenever a trial with all its epochs was the best so far.
    """

    seed: int
    finish_s: float
    trials: int
    reported: int
    trained: int
    trained_s: float
    best_ap: float | None
    winner: dict[str, Any] | None
    improvements: list[tuple[float, float]]

    def reached_s(self, ap: float) -> float:
        """Returns when a trial with all its epochs had this AP; infinity if none has."""
        return next((at_s for at_s, found in self.improvements if found >= ap), math.inf)


def with_costs(entries: Sequence[EpochEntry], costs: Costs, workers: int) -> list[EpochEntry]:
    """Returns a simulated search as it would take place with a peer's real costs.

    Every epoch takes `costs.epoch_factor` times as long, and every trial that has begun by then
    has delayed it by its share of the workers' time.
    """
    begun: set[int] = set()
    dearer = []
    for entry in entries:
        begun.add(entry.trial)
        outside_s = costs.start_s + costs.trial_s * len(begun) / workers
        at_s = outside_s + costs.epoch_factor * entry.at_s
        dearer.append(replace(entry, at_s=at_s, train_s=costs.epoch_factor * entry.train_s))
    return dearer


def summarize(entries: Sequence[EpochEntry], epochs: int) -> SearchRun:
    """Summarizes the entries of one search, which are in the order of time.

    Args:
        entries: at least one.
        epochs: of a full run.
    """
    improvements: list[tuple[float, float]] = []
    winner = None
    for entry in entries:
        best = improvements[-1][1] if improvements else -math.inf
        if entry.epoch == epochs and entry.val_ap > best:
            improvements.append((entry.at_s, entry.val_ap))
            winner = entry.params
    return SearchRun(
        seed=entries[0].seed,
        finish_s=entries[-1].at_s,
        trials=len({entry.trial for entry in entries}),
        reported=len(entries),
        trained=sum(entry.trained for entry in entries),
        trained_s=sum(entry.train_s for entry in entries),
        best_ap=improvements[-1][1] if improvements else None,
        winner=winner,
        improvements=improvements,
    )


def runs_of(
    entries: Sequence[EpochEntry], epochs: int, costs: Costs | None = None, workers: int = 1
) -> dict[int, SearchRun]:
    """Returns seed → summary, with real costs added to simulated searches if they are given."""
    by_seed = {seed: list(group) for seed, group in groupby(entries, key=lambda entry: entry.seed)}
    return {
        seed: summarize(each if costs is None else with_costs(each, costs, workers), epochs)
        for seed, each in by_seed.items()
    }


def overhead_s(run: SearchRun, workers: int, start_s: float = 0.0) -> float:
    """Returns the seconds of a worker outside of epochs, for each trial.

    Args:
        run: a real search.
        workers: that it had.
        start_s: from the command to the first trial, which counts for none.
    """
    return (workers * (run.finish_s - start_s) - run.trained_s) / run.trials
