"""Compares samplers and pruners on known learning curves."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import scipy.stats
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from canopy_search.dashboards.formatting.tables import new_table
from canopy_search.dashboards.formatting.values import duration_text, number_text, signed_text
from canopy_search.search.config.settings import NamedSettings, SearchSettings
from canopy_search.search.config.space import SearchSpace
from canopy_search.search.errors import SamplerError
from canopy_search.search.scheduling.factory import check_sampling
from canopy_search.search.simulation.curves import Curves, FiniteCurves
from canopy_search.search.simulation.replay import SimulatedPlan, simulate
from canopy_search.training.settings import TrainingSettings

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds.

    Attributes:
        mean: of the values.
        deviation: of the sample; 0 for a single value.
    """

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Returns the spread of some values."""
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        return cls(statistics.fmean(values), deviation)


@dataclass(frozen=True)
class Compared:
    """One sampler with one pruner.

    Attributes:
        sampler: as requested.
        pruner: as requested.
        workers: of a search.
        best_ap: found by a search.
        regret: how much better the best full run of the space is.
        regrets: of each seed.
        trials: finished ones of a search.
        epochs_reported: by all of them.
        epochs_trained: with the stage tree.
        seconds: simulated, with the stage tree.
        seconds_alone: simulated, with nothing shared.
    """

    sampler: str
    pruner: str
    workers: int
    best_ap: Spread
    regret: Spread
    regrets: tuple[float, ...]
    trials: Spread
    epochs_reported: Spread
    epochs_trained: Spread
    seconds: Spread
    seconds_alone: Spread

    @property
    def name(self) -> str:
        """Sampler and pruner."""
        return f"{self.sampler} + {self.pruner}"

    @property
    def regret_p90(self) -> float:
        """The regret that nine of ten searches do not exceed."""
        return float(np.percentile(self.regrets, 90))

    def share_within(self, regret: float) -> float:
        """Returns the share of the searches with at most this regret."""
        return statistics.fmean(found <= regret + _ROUNDING for found in self.regrets)

    def as_json(self) -> dict[str, Any]:
        """Returns the row as JSON values."""
        spreads = {
            name: {"mean": spread.mean, "deviation": spread.deviation}
            for name, spread in vars(self).items()
            if isinstance(spread, Spread)
        }
        return {
            "sampler": self.sampler,
            "pruner": self.pruner,
            "workers": self.workers,
            **spreads,
            "regret_p90": self.regret_p90,
            "within_005": self.share_within(0.005),
            "within_01": self.share_within(0.01),
        }


def named(text: str) -> NamedSettings:
    """Parses a sampler or pruner, written as ``asha`` or ``asha:reduction_factor=2``.

    Raises:
        SamplerError: it is not written this way.
    """
    name, _, parameters = text.partition(":")
    values: dict[str, Any] = {}
    for part in parameters.split(",") if parameters else []:
        key, equals, value = part.partition("=")
        if not equals or key == "name":
            raise SamplerError(f"{text}: expected NAME or NAME:PARAMETER=VALUE,…; found {part!r}")
        try:
            values[key] = YAML(typ="safe", pure=True).load(value)
        except YAMLError as error:
            raise SamplerError(f"{text}: {value!r} is not a YAML value") from error
    return NamedSettings(name=name, **values)


@dataclass(frozen=True, kw_only=True)
class Searches:
    """What all compared searches have in common.

    Attributes:
        trials: finished ones of a search.
        workers: numbers of workers of a search; all are simulated.
        verify: share of the epochs that verify the answer; None for each pruner's default.
    """

    trials: int
    workers: Sequence[int] = (1,)
    verify: float | None = None


def compare(
    curves: Mapping[int, FiniteCurves],
    samplers: Sequence[str],
    pruners: Sequence[str],
    searches: Searches,
) -> list[Compared]:
    """Simulates every sampler with every pruner, with each number of workers.

    Args:
        curves: seed of a search → its learning curves: one table for all, or a landscape each.
        samplers: as `named` reads them.
        pruners: likewise.
        searches: how long each is, and by how many workers.

    Raises:
        SamplerError: a sampler or pruner does not exist, or does not take its parameters.
        CurveTableError: no point of a table has a full curve.
    """
    chosen = list(product(searches.workers, samplers, pruners))
    plans = [
        SimulatedPlan(
            named(sampler), named(pruner), searches.trials, n_workers, verify=searches.verify
        )
        for n_workers, sampler, pruner in chosen
    ]
    best = [known.best_ap for known in curves.values()]
    for plan in plans:
        _check(next(iter(curves.values())), plan)
    return [_row(texts, plan, curves, best) for texts, plan in zip(chosen, plans, strict=True)]


def differences(rows: Sequence[Compared]) -> list[str]:
    """Returns for each row how its regret differs from the first row with as many workers.

    The seeds are the same in all rows, so differences are paired by seed. A difference is beyond
    its spread if the 95 % interval of its mean, by Student's t, does not contain 0.

    Args:
        rows: what `compare` returned.
    """
    lines = []
    for row in rows:
        first = next(other for other in rows if other.workers == row.workers)
        if row is first or len(row.regrets) < 2:
            continue
        low, high = paired_interval(row.regrets, first.regrets)
        difference = (low + high) / 2
        verdict = "within its spread" if low <= 0 <= high else "beyond its spread"
        how = "higher" if difference > 0 else "lower"
        seconds = row.seconds.mean / first.seconds.mean if first.seconds.mean else math.nan
        lines.append(
            f"{row.name}: regret {number_text(abs(difference))} {how} than with "
            f"{first.name} (95 %: {signed_text(low)} to {signed_text(high)}, {verdict}), "
            f"{seconds:.2f} times as long"
        )
    return lines


def paired_interval(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of paired differences, by Student's t.

    Args:
        values: two at least.
        others: what is subtracted from each.
    """
    difference = Spread.of([a - b for a, b in zip(values, others, strict=True)])
    n = len(values)
    half = difference.deviation / math.sqrt(n) * float(scipy.stats.t.ppf(0.975, n - 1))
    return difference.mean - half, difference.mean + half


def _check(curves: Curves, plan: SimulatedPlan) -> None:
    """Raises SamplerError if sampler or pruner does not exist or does not take its parameters."""
    search = SearchSettings(sampler=plan.sampler, pruner=plan.pruner)
    check_sampling(search, SearchSpace(TrainingSettings(), curves.distributions), curves.epochs)


def _row(
    texts: tuple[int, str, str],
    plan: SimulatedPlan,
    curves: Mapping[int, FiniteCurves],
    best: Sequence[float],
) -> Compared:
    runs = [simulate(known, plan, seed) for seed, known in curves.items()]
    if plan.workers == 1:  # the same decisions in the same order, only slower
        alone_s = [run.reported_s for run in runs]
    else:
        alone = replace(plan, shares=False)
        alone_s = [simulate(known, alone, seed).seconds for seed, known in curves.items()]
    found = [run.best_ap or 0.0 for run in runs]
    regrets = tuple(highest - ap for highest, ap in zip(best, found, strict=True))
    workers, sampler, pruner = texts
    return Compared(
        sampler,
        pruner,
        workers,
        best_ap=Spread.of(found),
        regret=Spread.of(regrets),
        regrets=regrets,
        trials=Spread.of([run.trials for run in runs]),
        epochs_reported=Spread.of([run.epochs_reported for run in runs]),
        epochs_trained=Spread.of([run.epochs_trained for run in runs]),
        seconds=Spread.of([run.seconds for run in runs]),
        seconds_alone=Spread.of(alone_s),
    )


def comparison_table(rows: Sequence[Compared], *, n_trials: int) -> Table:
    """Returns one row for each sampler with each pruner.

    Args:
        rows: what `compare` returned.
        n_trials: finished trials of each search.
    """
    table = new_table(
        f"{n_trials} trials: mean ± standard deviation over {len(rows[0].regrets)} seeds"
    )
    for name in ("sampler", "pruner"):
        table.add_column(name, no_wrap=True)
    for name in (
        "workers",
        "below the best",
        "90 % within",
        "≤ .005",
        "≤ .01",
        "trained",
        "time",
        "unshared",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.sampler,
            row.pruner,
            str(row.workers),
            _text(row.regret, 4),
            number_text(row.regret_p90),
            f"{row.share_within(0.005):.0%}",
            f"{row.share_within(0.01):.0%}",
            _text(row.epochs_trained, 0),
            duration_text(row.seconds.mean),
            duration_text(row.seconds_alone.mean),
        )
    return table


def _text(spread: Spread, digits: int) -> str:
    return f"{number_text(spread.mean, digits)} ± {number_text(spread.deviation, digits)}"
