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
from benchmarks.peers.task import Lookup, RealSearch, curves_of, peer_arguments
from canopy_search.search.config.space import SearchSpace
from canopy_search.search.study.configuration import load_config

_NOBODY: Any = None
"""ASHA's scheduler does not look at Ray's controller, which cannot be made without a cluster."""


def searcher(space: SearchSpace, seed: int) -> OptunaSearch:
    """Returns Ray's searcher on a space that is defined by running it.

    Ray's own words for a space take no step that does not divide its bounds.
    """
    return OptunaSearch(partial(_define, space), metric="val_ap", mode="max", seed=seed)


def _define(space: SearchSpace, trial: optuna.Trial) -> None:
    space.suggest(trial)


def scheduler(space: SearchSpace, reduction_factor: int) -> ASHAScheduler:
    """Returns Ray's scheduler; its own default for the factor is 4, its examples have 3."""
    return ASHAScheduler(max_t=space.training.epochs, reduction_factor=reduction_factor)


class Driven:
    """Ray's searcher and scheduler as the clock sees them."""

    def __init__(self, space: SearchSpace, reduction_factor: int, seed: int, trials: int) -> None:
        self._space = space
        self._searcher = searcher(space, seed)
        self._scheduler = scheduler(space, reduction_factor)
        self._scheduler.set_search_properties("val_ap", "max")
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
        return Begun(number, self._space.canonical(config or {}))

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
    from benchmarks.peers.loops import training_of

    search: RealSearch = config["search"]
    training = training_of(search, loader_workers=2 if search.workers == 1 else 0)
    params = training.space.canonical(config)
    recorder = Recorder(config["record"])
    # Ray names trials by eight hexadecimal digits, and with a listed number after them.
    number = int(tune.get_context().get_trial_id().partition("_")[0], 16)
    for epoch, (val_ap, seconds) in enumerate(training.epochs(params), start=1):
        at_s = time.time() - search.began
        recorder.add(EpochEntry(search.seed, number, epoch, val_ap, at_s, seconds, params))
        tune.report({"val_ap": val_ap})


def train(search: RealSearch, reduction_factor: int, record: Path) -> None:
    """Runs one search for real."""
    import ray

    space = load_config(search.config).space
    repository = str(Path(__file__).parents[2])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": repository}},
    )
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": search.threads}),
        param_space={"search": search, "record": record},
        tune_config=tune.TuneConfig(
            metric="val_ap",
            mode="max",
            search_alg=ConcurrencyLimiter(
                searcher(space, search.seed), max_concurrent=search.workers
            ),
            scheduler=scheduler(space, reduction_factor),
            num_samples=search.trials,
        ),
        run_config=tune.RunConfig(
            storage_path=str(record.parent / "ray"), name=record.stem, verbose=0
        ),
    ).fit()
    ray.shutdown()


def main() -> None:
    """Searches and writes the record."""
    parser = peer_arguments(__doc__)
    parser.add_argument("--reduction-factor", type=int, default=4)
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    recorder = Recorder(arguments.record)
    for seed in arguments.seeds:
        random.seed(seed)
        np.random.seed(seed)  # what Ray draws from
        if arguments.curves is None:
            search = RealSearch.of(arguments, seed)
            train(search, arguments.reduction_factor, arguments.record.resolve())
            continue
        lookup = Lookup(curves_of(arguments.curves, seed))
        driven = Driven(lookup.space, arguments.reduction_factor, seed, arguments.trials)
        for entry in run_clock(driven, lookup.curve, arguments.workers, seed):
            recorder.add(entry)


if __name__ == "__main__":
    main()
