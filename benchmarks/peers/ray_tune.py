"""Ray Tune with its ASHA scheduler and `OptunaSearch`, as its documentation combines them.

Trained, a `Tuner` in a local Ray runs a function trainable that reports every epoch; Ray keeps the
process of a trial for the next one. Looked up, the same searcher and scheduler are told by
`benchmarks.peers.clock` what Ray's controller would tell them, in its order, without a cluster.

References:
    https://docs.ray.io/en/latest/tune/examples/optuna_example.html
    https://docs.ray.io/en/latest/tune/api/schedulers.html
"""

import os
import random
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from benchmarks.peers.clock import Begun, Decision, run_clock
from benchmarks.peers.record import EpochEntry, Recorder
from benchmarks.peers.task import (
    SHAPES,
    SHAPES_TASK,
    Curves,
    RealSearch,
    Space,
    peer_arguments,
    setting,
)

_NOBODY: Any = None
"""ASHA's scheduler does not look at Ray's controller, which cannot be made without a cluster."""


def searcher(space: Space, seed: int) -> OptunaSearch:
    """Returns Ray's searcher on a space that is defined by running it.

    Ray's own words for a space take no step that does not divide its bounds.
    """
    return OptunaSearch(partial(_define, space), metric="val_ap", mode="max", seed=seed)


def _define(space: Space, trial: optuna.Trial) -> None:
    trial.suggest_categorical("backbone", space.backbones)
    trial.suggest_categorical("loss", space.losses)
    trial.suggest_float("gamma", space.gamma_low, space.gamma_high, step=space.gamma_step)


class Driven:
    """Ray's searcher and scheduler as the clock sees them."""

    def __init__(self, space: Space, seed: int, trials: int) -> None:
        self._searcher = searcher(space, seed)
        self._scheduler = ASHAScheduler(metric="val_ap", mode="max", max_t=space.epochs)
        self._trials = trials
        self._known: list[Any] = []

    def next_trial(self) -> Begun | None:
        """See `clock.Scheduler`."""
        number = len(self._known)
        if number >= self._trials:
            return None
        config = self._searcher.suggest(str(number))
        # What ASHA looks at of Ray's trial, which cannot be made without a cluster.
        trial: Any = SimpleNamespace(trial_id=str(number))
        self._known.append(trial)
        self._scheduler.on_trial_add(_NOBODY, trial)
        return Begun(number, setting(config or {}))

    def report(self, trial: int, epoch: int, val_ap: float) -> Decision:
        """See `clock.Scheduler`: in the order of `TuneController._process_trial_result`."""
        result = {"val_ap": val_ap, "training_iteration": epoch}
        known = self._known[trial]
        decision = self._scheduler.on_trial_result(_NOBODY, known, result)
        if decision == ASHAScheduler.STOP:
            self._searcher.on_trial_complete(known.trial_id, result=result)
            return Decision.STOP
        self._searcher.on_trial_result(known.trial_id, result)
        return Decision.GO_ON

    def complete(self, trial: int, epoch: int, val_ap: float) -> None:
        """See `clock.Scheduler`."""
        result = {"val_ap": val_ap, "training_iteration": epoch}
        known = self._known[trial]
        self._scheduler.on_trial_complete(_NOBODY, known, result)
        self._searcher.on_trial_complete(known.trial_id, result=result)


def trainable(config: dict[str, Any]) -> None:
    """Trains one setting in a process of Ray's and reports every epoch."""
    from benchmarks.peers.torch_training import TorchTraining

    fixed = config["fixed"]
    training = TorchTraining(
        Path(fixed["data"]),
        SHAPES_TASK,
        threads=fixed["threads"],
        loader_workers=fixed["loaders"],
    )
    recorder = Recorder(Path(fixed["record"]))
    # Ray names trials by eight hexadecimal digits, and with a listed number after them.
    number = int(tune.get_context().get_trial_id().partition("_")[0], 16)
    for epoch, (val_ap, seconds) in enumerate(training.epochs(config), start=1):
        at_s = time.time() - fixed["began"]
        recorder.add(
            EpochEntry(fixed["seed"], number, epoch, val_ap, at_s, seconds, setting(config))
        )
        tune.report({"val_ap": val_ap})


def train(search: RealSearch, record: Path) -> None:
    """Runs one search for real."""
    import ray

    threads, workers = search.threads, search.workers
    repository = str(Path(__file__).parents[2])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": repository}},
    )
    fixed = {
        "data": str(search.data),
        "record": str(record),
        "seed": search.seed,
        "began": search.began,
        "threads": threads,
        "loaders": threads if workers == 1 else 0,
    }
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": threads}),
        param_space={"fixed": fixed},
        tune_config=tune.TuneConfig(
            metric="val_ap",
            mode="max",
            search_alg=ConcurrencyLimiter(searcher(SHAPES, search.seed), max_concurrent=workers),
            scheduler=ASHAScheduler(max_t=SHAPES.epochs),
            num_samples=search.trials,
        ),
        run_config=tune.RunConfig(
            storage_path=str(record.parent / "ray"), name=record.stem, verbose=0
        ),
    ).fit()
    ray.shutdown()


def main() -> None:
    """Searches and writes the record."""
    arguments = peer_arguments(__doc__).parse_args()
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    curves = Curves(arguments.table) if arguments.table else None
    recorder = Recorder(arguments.record)
    for seed in arguments.seeds:
        random.seed(seed)
        np.random.seed(seed)  # what Ray draws from
        if curves is None:
            train(RealSearch.of(arguments, seed), arguments.record.resolve())
            continue
        driven = Driven(curves.space, seed, arguments.trials)
        for entry in run_clock(driven, curves.curve, arguments.workers, seed):
            recorder.add(entry)


if __name__ == "__main__":
    main()
