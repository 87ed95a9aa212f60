"""Plain Optuna with PyTorch, as Optuna's and PyTorch's documentation teach it; also random search.

``study.optimize`` with an objective that trains, reports every epoch and asks the pruner. The study
lies in Postgres (`RDBStorage`) when it trains, and in memory when epochs are looked up.

References:
    https://github.com/optuna/optuna-examples/blob/main/pytorch/pytorch_simple.py
    https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/003_efficient_optimization_algorithms.html
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from benchmarks.peers.record import EpochEntry, Recorder
from benchmarks.peers.task import Lookup, RealSearch, curves_of, peer_arguments
from canopy_search.search.config.space import SearchSpace

Epochs = Callable[[dict[str, Any]], Iterator[tuple[float, float]]]
"""Trains a setting: yields validation AP and seconds of every epoch."""

Note = Callable[[int, int, float, float, dict[str, Any]], None]
"""Is told trial, epoch, validation AP, seconds and setting of every epoch."""

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    # As its reference advises: parameters are sampled together; and, as Hyperband's does, for fewer
    # random trials than there are in a bracket.
    "multivariate": lambda seed: TPESampler(seed=seed, multivariate=True, n_startup_trials=5),
    "random": lambda seed: RandomSampler(seed=seed),
}
PRUNERS: dict[str, Callable[[int], BasePruner]] = {
    "median": lambda _: MedianPruner(),
    "hyperband": lambda epochs: HyperbandPruner(min_resource=1, max_resource=epochs),
    "successive_halving": lambda _: SuccessiveHalvingPruner(min_resource=1),
    "none": lambda _: NopPruner(),
}


@dataclass(frozen=True)
class Method:
    """How a space is searched.

    Attributes:
        sampler: one of `SAMPLERS`.
        pruner: one of `PRUNERS`.
        seed: of the sampler.
        trials: number of trials.
    """

    sampler: str
    pruner: str
    seed: int
    trials: int


def search(
    space: SearchSpace,
    method: Method,
    train: Epochs,
    note: Note,
    storage: str | None = None,
) -> optuna.Study:
    """Runs one search.

    Args:
        space: what is searched.
        method: of the search.
        train: trains one setting.
        note: is told of every epoch.
        storage: a database URL; None for memory.
    """

    def objective(trial: optuna.Trial) -> float:
        params = space.suggest(trial)
        val_ap = 0.0
        for epoch, (val_ap, seconds) in enumerate(train(params), start=1):
            note(trial.number, epoch, val_ap, seconds, params)
            trial.report(val_ap, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return val_ap

    study = optuna.create_study(
        study_name=f"plain-{method.sampler}-{method.pruner}-{method.seed}",
        storage=storage,
        sampler=SAMPLERS[method.sampler](method.seed),
        pruner=PRUNERS[method.pruner](space.training.epochs),
        direction="maximize",
    )
    study.optimize(objective, n_trials=method.trials)
    return study


def simulated(lookup: Lookup, method: Method) -> list[EpochEntry]:
    """Runs one search on looked-up epochs; with one worker the clock is a sum."""
    entries: list[EpochEntry] = []
    now_s = 0.0

    def look_up(params: dict[str, Any]) -> Iterator[tuple[float, float]]:
        for point in lookup.curve(params):
            yield float("nan") if point.val_ap is None else point.val_ap, point.seconds

    def note(trial: int, epoch: int, val_ap: float, seconds: float, params: dict[str, Any]) -> None:
        nonlocal now_s
        now_s += seconds
        entries.append(EpochEntry(method.seed, trial, epoch, val_ap, now_s, seconds, params))

    search(lookup.space, method, look_up, note)
    return entries


def main() -> None:
    """Searches and writes the record."""
    parser = peer_arguments(__doc__)
    parser.add_argument("--sampler", choices=SAMPLERS, default="tpe")
    parser.add_argument("--pruner", choices=PRUNERS, default="median")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    recorder = Recorder(arguments.record)
    for seed in arguments.seeds:
        method = Method(arguments.sampler, arguments.pruner, seed, arguments.trials)
        if arguments.curves is None:
            train(
                RealSearch.of(arguments, seed), method, recorder, os.environ["PEERS_DATABASE_URL"]
            )
            continue
        for entry in simulated(Lookup(curves_of(arguments.curves, seed)), method):
            recorder.add(entry)


def train(
    search_for_real: RealSearch, method: Method, recorder: Recorder, storage: str | None
) -> None:
    """Runs one search for real."""
    from benchmarks.peers.loops import training_of

    training = training_of(search_for_real, loader_workers=2)
    note = _noting(recorder, search_for_real)
    search(training.space, method, training.epochs, note, storage)


def _noting(recorder: Recorder, search_for_real: RealSearch) -> Note:
    """Returns what adds an epoch as it ends."""

    def note(trial: int, epoch: int, val_ap: float, seconds: float, params: dict[str, Any]) -> None:
        at_s = time.time() - search_for_real.began
        recorder.add(EpochEntry(search_for_real.seed, trial, epoch, val_ap, at_s, seconds, params))

    return note


if __name__ == "__main__":
    main()
