"""Summaries of searches → the tables that are printed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, mean, median

import numpy as np

from benchmarks.peers.measuring import RealRun
from benchmarks.peers.roster import CANOPY, Peer
from benchmarks.peers.summary import Costs, SearchRun
from benchmarks.peers.winners import setting_key
from canopy_search.dashboards.formatting.values import number_text, signed_text
from canopy_search.search.simulation.comparison import Spread, paired_interval


@dataclass(frozen=True)
class Compared:
    """One peer's simulated searches of one space.

    Attributes:
        peer: who.
        best_ap: seed → the best AP of a full run in the space.
        runs: seed → summary, where an epoch costs everybody the same.
        shipped: likewise, with what the peer's own loop and trials cost; empty if that is not
            known for this space.
        costs: those that `shipped` has.
    """

    peer: Peer
    best_ap: Mapping[int, float]
    runs: Mapping[int, SearchRun]
    shipped: Mapping[int, SearchRun]
    costs: Costs

    @property
    def regrets(self) -> list[float]:
        """How far the best AP of each search is below the best of the space."""
        return [self.best_ap[seed] - (run.best_ap or 0.0) for seed, run in self.runs.items()]

    @property
    def trained(self) -> float:
        """Mean number of epochs that a search trains."""
        return mean(run.trained for run in self.runs.values())

    @property
    def finish_s(self) -> float:
        """Mean time to the end of a search, where an epoch costs everybody the same."""
        return _finish_s(self.runs)

    def share_within(self, regret: float) -> float:
        """Returns the share of searches that end so near to the best."""
        return mean(each <= regret + 1e-9 for each in self.regrets)

    def within_s(self, regret: float) -> float:
        """Returns the median time until a search is so near to the best; infinity for never."""
        return median(
            run.reached_s(self.best_ap[seed] - regret - 1e-9) for seed, run in self.runs.items()
        )

    def excess(self, ours: "Compared") -> tuple[float, float]:
        """Returns the 95 % interval of how much more it regrets than Canopy, paired by seed."""
        return paired_interval(self.regrets, ours.regrets)


def _finish_s(runs: Mapping[int, SearchRun]) -> float:
    return mean(run.finish_s for run in runs.values())


def ours_of(compared: Sequence[Compared], peer: Peer) -> Compared:
    """Returns Canopy's searches with as many workers as a peer has."""
    return next(
        each
        for each in compared
        if (each.peer.title, each.peer.workers) == (CANOPY.title, peer.workers)
    )


def simulated_table(compared: Sequence[Compared], test_ap: Mapping[str, float]) -> str:
    """Returns the table of one space, in Markdown.

    Args:
        compared: Canopy among them, with each number of workers.
        test_ap: by `winners.setting_key`; empty if winners were not scored on test.
    """
    has_shipped, has_test = any(each.shipped for each in compared), bool(test_ap)
    head = ["search", "workers", "below the best", "90 % within", "≤ .005", "≤ .01"]
    head += ["more than Canopy, 95 %", "epochs", "same loop, s", "Canopy = 1", "≤ .01 after, s"]
    head += ["as shipped, s", "Canopy = 1", "peak MiB"] * has_shipped
    head += ["winner's test AP"] * has_test
    rows = [head, ["---"] * len(head)]
    for each in compared:
        ours = ours_of(compared, each.peer)
        cells = [each.peer.title, str(each.peer.workers), *_regret_cells(each, ours)]
        within_s = each.within_s(0.01)
        cells += [
            f"{each.trained:.0f}",
            f"{each.finish_s:.0f}",
            f"{each.finish_s / ours.finish_s:.2f}",
            f"{within_s:.0f}" if math.isfinite(within_s) else "never",
        ]
        if has_shipped:
            shipped_s = _finish_s(each.shipped)
            memory = "" if each.costs.peak_mib is None else f"{each.costs.peak_mib:,.0f}"
            cells += [f"{shipped_s:.0f}", f"{shipped_s / _finish_s(ours.shipped):.2f}", memory]
        if has_test:
            winners = [run.winner for run in each.runs.values() if run.winner is not None]
            aps = Spread.of([test_ap[setting_key(winner)] for winner in winners])
            cells.append(f"{number_text(aps.mean)} ± {number_text(aps.deviation)}")
        rows.append(cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _regret_cells(each: Compared, ours: Compared) -> list[str]:
    regret = Spread.of(each.regrets)
    low, high = each.excess(ours)
    more = "" if each is ours else f"{signed_text(low)} to {signed_text(high)}"
    return [
        f"{number_text(regret.mean)} ± {number_text(regret.deviation)}",
        number_text(float(np.quantile(each.regrets, 0.9))),
        f"{each.share_within(0.005):.0%}",
        f"{each.share_within(0.01):.0%}",
        more,
    ]


def overview_table(spaces: Mapping[str, Sequence[Compared]]) -> str:
    """Returns a row for each peer of one worker, over all spaces, in Markdown.

    Args:
        spaces: title → its searches; the same peers in each.
    """
    head = ["search, one worker", "time, Canopy = 1", "from", "to", "epochs, Canopy = 1"]
    head += ["regrets more", "within the spread", "regrets less"]
    rows = [head, ["---"] * len(head)]
    first = next(iter(spaces.values()))
    for peer in (each.peer for each in first if each.peer.workers == 1):
        pairs = [
            (next(each for each in compared if each.peer == peer), ours_of(compared, peer))
            for compared in spaces.values()
        ]
        times = [theirs.finish_s / ours.finish_s for theirs, ours in pairs]
        epochs = [theirs.trained / ours.trained for theirs, ours in pairs]
        intervals = [theirs.excess(ours) for theirs, ours in pairs]
        counts = ["", "", ""]
        if peer != CANOPY:
            more = sum(low > 0 for low, _ in intervals)
            less = sum(high < 0 for _, high in intervals)
            counts = [str(more), str(len(pairs) - more - less), str(less)]
        rows.append(
            [
                peer.title,
                f"{geometric_mean(times):.2f}",
                f"{min(times):.2f}",
                f"{max(times):.2f}",
                f"{geometric_mean(epochs):.2f}",
                *counts,
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def real_table(runs: Iterable[RealRun]) -> str:
    """Returns the table of searches that were really run, in Markdown."""
    head = ["search", "loop", "workers", "trials", "finished, s", "epochs", "s an epoch"]
    head += ["start, s", "outside of epochs, s a trial", "best val AP", "peak MiB", "measured"]
    rows = [head, ["---"] * len(head)]
    for each in runs:
        run = each.run
        rows.append(
            [
                each.peer.title,
                "its own" if each.own_loop else "Canopy's",
                str(each.peer.workers),
                str(run.trials),
                f"{run.finish_s:.1f}",
                str(run.trained),
                f"{run.trained_s / run.trained:.2f}",
                f"{each.start_s:.1f}",
                f"{each.trial_s:.2f}",
                "" if run.best_ap is None else number_text(run.best_ap),
                f"{each.peak_mib:,.0f}",
                each.machine.partition(" · torch")[0],
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
