"""Summaries of searches → the tables and ratios that are printed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev

from benchmarks.peers.measuring import RealRun
from benchmarks.peers.roster import CANOPY, CANOPY_2, PLAIN, RANDOM, Peer
from benchmarks.peers.summary import Costs, SearchRun, overhead_s, summarize
from benchmarks.peers.winners import setting_key

TOLERANCE = 0.005
"""How far below plain Optuna's best an AP still counts as the same: about as much as its own best
varies by from one search to the next (a standard deviation of .004)."""


@dataclass(frozen=True)
class Compared:
    """One peer's searches.

    Attributes:
        peer: who.
        runs: seed → summary.
        costs: what was added to the simulation.
    """

    peer: Peer
    runs: Mapping[int, SearchRun]
    costs: Costs

    def reached_s(self, targets: Mapping[int, float]) -> list[float]:
        """Returns for each seed when its AP was reached; infinity where it was not."""
        return [run.reached_s(targets[seed]) for seed, run in self.runs.items()]

    @property
    def finish_s(self) -> list[float]:
        """When each search ended."""
        return [run.finish_s for run in self.runs.values()]

    @property
    def trained(self) -> list[int]:
        """Epochs that each search trained."""
        return [run.trained for run in self.runs.values()]


def targets_of(plain: Compared, tolerance: float) -> dict[int, float]:
    """Returns seed → the AP that is to be reached: plain Optuna's best, less a tolerance."""
    return {
        seed: (run.best_ap if run.best_ap is not None else math.inf) - tolerance
        for seed, run in plain.runs.items()
    }


def simulated_table(
    compared: Sequence[Compared], test_ap: Mapping[str, float], tolerance: float = TOLERANCE
) -> str:
    """Returns the table of all peers, in Markdown.

    Args:
        compared: plain Optuna among them.
        test_ap: by `winners.setting_key`; those that lack are left out.
        tolerance: see `targets_of`.
    """
    plain = next(each for each in compared if each.peer == PLAIN)
    targets = targets_of(plain, tolerance)
    rows = [
        "| peer | workers | finished, s | same AP, s | reached | epochs trained | best val AP "
        "| winner's test AP | outside of epochs, s a trial | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in compared:
        reached = each.reached_s(targets)
        best = [run.best_ap for run in each.runs.values() if run.best_ap is not None]
        won = [
            test_ap[setting_key(run.winner)]
            for run in each.runs.values()
            if run.winner is not None and setting_key(run.winner) in test_ap
        ]
        cells = [
            each.peer.title,
            str(each.peer.workers),
            _spread(each.finish_s, 0),
            _seconds(median(reached)),
            f"{sum(map(math.isfinite, reached))} of {len(reached)}",
            _spread(each.trained, 0),
            _ap_spread(best),
            _ap_spread(won),
            f"{each.costs.trial_s:.2f}",
            "" if each.costs.peak_mib is None else f"{each.costs.peak_mib:,.0f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def real_table(runs: Iterable[RealRun], epochs: int) -> str:
    """Returns the table of searches that were really run, in Markdown."""
    rows = [
        "| peer | workers | trials | finished, s | epochs trained | s an epoch "
        "| outside of epochs, s a trial | best val AP | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in runs:
        run = summarize(each.entries, epochs)
        start_s = min(entry.at_s - entry.train_s for entry in each.entries if entry.trained)
        cells = [
            each.peer.title,
            str(each.peer.workers),
            str(run.trials),
            f"{run.finish_s:.1f}",
            str(run.trained),
            f"{run.trained_s / run.trained:.2f}",
            f"{overhead_s(run, each.peer.workers, start_s):.2f}",
            "" if run.best_ap is None else _ap(run.best_ap),
            f"{each.peak_mib:,.0f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def ratio_lines(compared: Sequence[Compared], tolerance: float = TOLERANCE) -> list[str]:
    """Returns how many times sooner Canopy is, a line for each aim."""
    by_key = {each.peer.key: each for each in compared}
    canopy, plain, random = by_key[CANOPY.key], by_key[PLAIN.key], by_key[RANDOM.key]

    def sooner(peer: Compared, ours: Compared, below: float = tolerance) -> float:
        targets = targets_of(plain, below)
        theirs_s, ours_s = (median(each.reached_s(targets)) for each in (peer, ours))
        return math.nan if math.isinf(ours_s) else theirs_s / ours_s

    same = f"same AP within {_ap(tolerance)}"
    lines = [
        _aim("finished, plain Optuna / Canopy", _mean_ratio(plain, canopy), 3),
        _aim("finished, random search / Canopy", _mean_ratio(random, canopy), 6),
        _aim(f"{same}, plain Optuna / Canopy", sooner(plain, canopy), 3),
        _aim("its very best AP, plain Optuna / Canopy", sooner(plain, canopy, 0.0), 3),
        _aim(f"{same}, random search / Canopy", sooner(random, canopy), None),
    ]
    for each in compared:
        if each.peer.environment == "canopy":
            continue
        ours = by_key[CANOPY_2.key if each.peer.workers == 2 else CANOPY.key]
        workers = "1 worker" if each.peer.workers == 1 else f"{each.peer.workers} workers"
        lines.append(_aim(f"{same}, {each.peer.title}, {workers} / Canopy", sooner(each, ours), 1))
    peers = [each for each in compared if each.peer.module != CANOPY.module]
    nearest = min(peers, key=lambda each: mean(each.trained))
    share = mean(nearest.trained) / mean(canopy.trained)
    lines.append(_aim(f"epochs trained, {nearest.peer.title} (the fewest) / Canopy", share, 2))
    return lines


def _aim(name: str, ratio: float, wanted: float | None) -> str:
    if math.isnan(ratio):
        end = "" if wanted is None else f"; at least {wanted} was the aim: missed"
        return f"       –  {name} (Canopy does not, in half of its searches){end}"
    if wanted is None and math.isfinite(ratio):
        return f"  {ratio:5.1f}×  {name}"
    shown = f"{ratio:5.1f}×" if math.isfinite(ratio) else "     ∞"
    why = "" if math.isfinite(ratio) else " (never in half of its searches)"
    aim = "" if wanted is None else f"; at least {wanted} was the aim"
    return f"  {shown}  {name}{why}{aim}{'' if wanted is None else _verdict(ratio, wanted)}"


def _verdict(ratio: float, wanted: float) -> str:
    return ": met" if ratio >= wanted else ": missed"


def _mean_ratio(peer: Compared, ours: Compared) -> float:
    return mean(peer.finish_s) / mean(ours.finish_s)


def _spread(values: Sequence[float], digits: int) -> str:
    spread = stdev(values) if len(values) > 1 else 0.0
    return f"{mean(values):.{digits}f} ± {spread:.{digits}f}"


def _seconds(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "never"


def _ap(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def _ap_spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{_ap(mean(values))} ± {_ap(stdev(values) if len(values) > 1 else 0.0)}"
