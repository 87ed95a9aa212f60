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
from benchmarks.peers.task import SHAPES_TASK, Curves, Space, peer_arguments, setting

Epochs = Callable[[dict[str, Any]], Iterator[tuple[float, float]]]
"""Trains a setting: yields validation AP and seconds of every epoch."""

Note = Callable[[int, int, float, float, dict[str, Any]], None]
"""Is told trial, epoch, validation AP, seconds and setting of every epoch."""

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}
PRUNERS: dict[str, Callable[[Space], BasePruner]] = {
    "median": lambda _: MedianPruner(),
    "hyperband": lambda space: HyperbandPruner(min_resource=1, max_resource=space.epochs),
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
    space: Space,
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
        params = {
            "backbone": trial.suggest_categorical("backbone", space.backbones),
            "loss": trial.suggest_categorical("loss", space.losses),
            "gamma": trial.suggest_float(
                "gamma", space.gamma_low, space.gamma_high, step=space.gamma_step
            ),
        }
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
        pruner=PRUNERS[method.pruner](space),
        direction="maximize",
    )
    study.optimize(objective, n_trials=method.trials)
    return study


def simulated(
    curves: Curves, sampler: str, pruner: str, seed: int, trials: int
) -> list[EpochEntry]:
    """Runs one search on looked-up epochs; with one worker the clock is a sum."""
    entries: list[EpochEntry] = []
    now_s = 0.0

    def look_up(params: dict[str, Any]) -> Iterator[tuple[float, float]]:
        for point in curves.curve(params):
            yield float("nan") if point.val_ap is None else point.val_ap, point.seconds

    def note(trial: int, epoch: int, val_ap: float, seconds: float, params: dict[str, Any]) -> None:
        nonlocal now_s
        now_s += seconds
        entries.append(EpochEntry(seed, trial, epoch, val_ap, now_s, seconds, setting(params)))

    search(curves.space, Method(sampler, pruner, seed, trials), look_up, note)
    return entries


def main() -> None:
    """Searches and writes the record."""
    parser = peer_arguments(__doc__)
    parser.add_argument("--sampler", choices=SAMPLERS, default="tpe")
    parser.add_argument("--pruner", choices=PRUNERS, default="median")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    recorder = Recorder(arguments.record)
    if arguments.table is not None:
        curves = Curves(arguments.table)
        for seed in arguments.seeds:
            for entry in simulated(
                curves, arguments.sampler, arguments.pruner, seed, arguments.trials
            ):
                recorder.add(entry)
        return
    from benchmarks.peers.torch_training import TorchTraining

    training = TorchTraining(arguments.data, SHAPES_TASK, threads=2, loader_workers=2)
    for seed in arguments.seeds:
        search(
            SHAPES_TASK.space,
            Method(arguments.sampler, arguments.pruner, seed, arguments.trials),
            training.epochs,
            noting(recorder.add, seed, arguments.began or time.time()),
            storage=os.environ["PEERS_DATABASE_URL"],
        )


def noting(add: Callable[[EpochEntry], None], seed: int, began: float) -> Note:
    """Returns what adds an epoch as it ends."""

    def note(trial: int, epoch: int, val_ap: float, seconds: float, params: dict[str, Any]) -> None:
        at_s = time.time() - began
        add(EpochEntry(seed, trial, epoch, val_ap, at_s, seconds, setting(params)))

    return note


if __name__ == "__main__":
    main()
