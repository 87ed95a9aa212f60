"""Samplers and pruners against each other, on a table of learning curves."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from search.curves import CurveTable
from search.errors import CurveTableError, SamplerError
from search.sampling import check_sampling
from search.settings import NamedSettings, SearchSettings
from search.simulation import SimulatedSearch, simulate
from search.space import SearchSpace
from training.settings import TrainingSettings


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
        sampler: as it was asked for.
        pruner: as it was asked for.
        best_ap: found by a search.
        regret: how much better the best point of the table is.
        trials: finished ones of a search.
        epochs_reported: by all of them.
        epochs_trained: with the stage tree.
        seconds: simulated, with the stage tree.
        seconds_alone: simulated, with nothing shared.
    """

    sampler: str
    pruner: str
    best_ap: Spread
    regret: Spread
    trials: Spread
    epochs_reported: Spread
    epochs_trained: Spread
    seconds: Spread
    seconds_alone: Spread

    def as_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        spreads = {
            name: {"mean": spread.mean, "deviation": spread.deviation}
            for name, spread in vars(self).items()
            if isinstance(spread, Spread)
        }
        return {"sampler": self.sampler, "pruner": self.pruner, **spreads}


def named(text: str) -> NamedSettings:
    """Returns a sampler or pruner that is written as ``asha`` or ``asha:reduction_factor=2``.

    Raises:
        SamplerError: it is not written so.
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
            raise SamplerError(f"{text}: {value!r} is no value") from error
    return NamedSettings(name=name, **values)


def compare(
    table: CurveTable,
    samplers: Sequence[str],
    pruners: Sequence[str],
    *,
    n_trials: int,
    seeds: int,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Compared]:
    """Simulates every sampler with every pruner.

    Args:
        table: the learning curves.
        samplers: as `named` reads them.
        pruners: likewise.
        n_trials: finished trials of a search.
        seeds: searches for each pair.
        workers: of a search.
        progress: called with (pairs done, pairs).

    Raises:
        SamplerError: a sampler or pruner does not exist, or does not take its parameters.
        CurveTableError: no point of the table has a full curve.
    """
    pairs = list(product(samplers, pruners))
    best = _best_of(table)
    for sampler, pruner in pairs:
        _check(table, sampler, pruner)
    rows = []
    for done, (sampler, pruner) in enumerate(pairs, start=1):
        search = partial(
            simulate, table, named(sampler), named(pruner), n_trials=n_trials, workers=workers
        )
        runs = [search(seed=seed) for seed in range(seeds)]
        if workers == 1:  # the same decisions in the same order, only slower
            alone_s = [run.reported_s for run in runs]
        else:
            alone_s = [search(seed=seed, shares=False).seconds for seed in range(seeds)]
        rows.append(_row(sampler, pruner, runs, alone_s, best))
        if progress is not None:
            progress(done, len(pairs))
    return rows


def _best_of(table: CurveTable) -> float:
    """Returns the best AP of a full run."""
    full = [
        curve[-1].val_ap
        for curve in table.curves.values()
        if len(curve) == table.epochs and curve[-1].val_ap is not None
    ]
    if not full:
        raise CurveTableError("every point of the table diverges, so there is nothing to find")
    return max(full)


def _check(table: CurveTable, sampler: str, pruner: str) -> None:
    """Raises SamplerError if one of them does not exist or does not take its parameters."""
    search = SearchSettings(sampler=named(sampler), pruner=named(pruner))
    check_sampling(search, SearchSpace(TrainingSettings(), table.distributions), table.epochs)


def _row(
    sampler: str,
    pruner: str,
    runs: Sequence[SimulatedSearch],
    alone_s: Sequence[float],
    best: float,
) -> Compared:
    found = [run.best_ap or 0.0 for run in runs]
    return Compared(
        sampler,
        pruner,
        best_ap=Spread.of(found),
        regret=Spread.of([best - each for each in found]),
        trials=Spread.of([run.trials for run in runs]),
        epochs_reported=Spread.of([run.epochs_reported for run in runs]),
        epochs_trained=Spread.of([run.epochs_trained for run in runs]),
        seconds=Spread.of([run.seconds for run in runs]),
        seconds_alone=Spread.of(alone_s),
    )
