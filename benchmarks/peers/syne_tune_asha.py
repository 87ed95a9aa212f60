"""Syne Tune: ASHA that stops (0.16.0), and ASHA that promotes and PASHA (0.13.0).

Syne Tune 0.14 dropped promotion and PASHA, so that the last version which has them runs them, in an
environment of its own. Trained, a `Tuner` with a `LocalBackend` starts `syne_tune_trial` for each
trial, as Syne Tune's examples do; it ends when a 41st trial would be begun. Looked up, the same
schedulers are told by `benchmarks.peers.clock` what a tuner would tell them, in its order.

References:
    https://syne-tune.readthedocs.io/en/latest/examples.html (launch_height_standalone.py)
    https://syne-tune.readthedocs.io/en/latest/schedulers.html
"""

import logging
import os
import random
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import syne_tune
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend import LocalBackend
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, finrange
from syne_tune.optimizer.baselines import ASHA
from syne_tune.optimizer.scheduler import SchedulerDecision

from benchmarks.peers.clock import Begun, Decision, run_clock
from benchmarks.peers.record import EpochEntry, Recorder, read_record
from benchmarks.peers.task import Lookup, RealSearch, curves_of, peer_arguments
from canopy_search.search.config.space import SearchSpace
from canopy_search.search.study.configuration import load_config

METHODS = ("stopping", "promotion", "pasha")
DECISIONS = {
    SchedulerDecision.CONTINUE: Decision.GO_ON,
    SchedulerDecision.STOP: Decision.STOP,
    SchedulerDecision.PAUSE: Decision.PAUSE,
}
# With its default of 3, nine epochs are two rungs, and PASHA never goes beyond the first.
PASHA_FACTOR = 2
# 0.14 renamed and dropped parts of the interface.
IS_OLD = tuple(map(int, syne_tune.__version__.split(".")[:2])) < (0, 14)


def config_space(space: SearchSpace, **constants: Any) -> dict[str, Any]:
    """Returns what is searched, in Syne Tune's words."""
    domains = {name: _domain(each) for name, each in space.distributions.items()}
    return {**domains, "epochs": space.training.epochs, **constants}


def _domain(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return choice(list(distribution.choices))
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        steps = round((distribution.high - distribution.low) / distribution.step)
        return finrange(distribution.low, distribution.high, steps + 1)
    raise TypeError(f"{distribution}: only lists and ranges with a step are compared")


def scheduler(space: SearchSpace, method: str, seed: int, **constants: Any) -> Any:
    """Builds a scheduler with the defaults of its version: rungs at epochs 1, 3 and 9."""
    searched = config_space(space, **constants)
    if not IS_OLD:
        if method != "stopping":
            raise SystemExit(f"{method} needs Syne Tune 0.13, found {syne_tune.__version__}")
        return ASHA(
            searched,
            metric="val_ap",
            time_attr="epoch",
            max_t=space.training.epochs,
            do_minimize=False,
            random_seed=seed,
        )
    from syne_tune.optimizer.baselines import PASHA

    options: dict[str, Any] = {
        "metric": "val_ap",
        "mode": "max",
        "resource_attr": "epoch",
        "max_resource_attr": "epochs",
        "random_seed": seed,
    }
    if method == "pasha":
        return PASHA(searched, reduction_factor=PASHA_FACTOR, **options)
    return ASHA(searched, type=method, **options)


class Driven:
    """A scheduler of Syne Tune as the clock sees it."""

    def __init__(self, space: SearchSpace, scheduler: Any, trials: int) -> None:
        self._space = space
        self._scheduler = scheduler
        self._trials = trials
        self._known: dict[int, Trial] = {}
        self._is_over = False

    def next_trial(self) -> Begun | None:
        """See `clock.Scheduler`: until a trial too many would be begun."""
        if self._is_over:
            return None
        new = len(self._known)
        suggestion = self._scheduler.suggest(new) if IS_OLD else self._scheduler.suggest()
        if suggestion is None:
            return None
        if not suggestion.spawn_new_trial_id:
            number = suggestion.checkpoint_trial_id
            if suggestion.config is not None:
                self._known[number].config = suggestion.config
            return Begun(number, self._space.canonical(self._known[number].config))
        if new >= self._trials:
            self._is_over = True
            return None
        trial = Trial(new, suggestion.config, datetime.now())
        self._known[new] = trial
        self._scheduler.on_trial_add(trial)
        return Begun(new, self._space.canonical(trial.config))

    def report(self, trial: int, epoch: int, val_ap: float) -> Decision:
        """See `clock.Scheduler`."""
        known = self._known[trial]
        decision = DECISIONS[
            self._scheduler.on_trial_result(known, {"val_ap": val_ap, "epoch": epoch})
        ]
        if decision is not Decision.GO_ON:
            self._scheduler.on_trial_remove(known)
        return decision

    def complete(self, trial: int, epoch: int, val_ap: float) -> None:
        """See `clock.Scheduler`."""
        self._scheduler.on_trial_complete(self._known[trial], {"val_ap": val_ap, "epoch": epoch})


def best_to_its_end(entries: list[EpochEntry], lookup: Lookup) -> list[EpochEntry]:
    """Returns what is left of the best trial of those that got furthest, on looked-up epochs."""
    best = furthest(entries)
    at_s = entries[-1].at_s
    more = []
    for epoch, point in enumerate(lookup.curve(best.params)[best.epoch :], start=best.epoch + 1):
        at_s += point.seconds
        val_ap = float("nan") if point.val_ap is None else point.val_ap
        more.append(replace(best, epoch=epoch, val_ap=val_ap, at_s=at_s, train_s=point.seconds))
    return more


def furthest(entries: list[EpochEntry]) -> EpochEntry:
    """Returns the best epoch of those that only the longest trials have had."""
    return max(entries, key=lambda entry: (entry.epoch, entry.val_ap))


def train(search: RealSearch, method: str, record: Path) -> None:
    """Runs one search for real."""
    os.environ["SYNETUNE_FOLDER"] = str(record.parent / "syne-tune")
    space = load_config(search.config).space
    constants = {
        "config": str(search.config),
        "data": str(search.data),
        "record": str(record),
        "search_seed": search.seed,
        "began": search.began,
        "workers": search.workers,
        "own_loop": int(search.own_loop),
    }
    Tuner(
        trial_backend=LocalBackend(entry_point=str(Path(__file__).with_name("syne_tune_trial.py"))),
        scheduler=scheduler(space, method, search.seed, **constants),
        # One less: it ends when more have been started.
        stop_criterion=StoppingCriterion(max_num_trials_started=search.trials - 1),
        wait_trial_completion_when_stopping=True,
        n_workers=search.workers,
        sleep_time=0.1,
        save_tuner=False,
        suffix_tuner_name=True,
    ).run()
    entries = read_record(record)
    best = furthest(entries)
    if best.epoch < space.training.epochs:
        from benchmarks.peers.loops import training_of

        training = training_of(search, loader_workers=2)
        for epoch, (val_ap, seconds) in enumerate(training.epochs(best.params), start=1):
            at_s = time.time() - search.began
            again = replace(best, epoch=epoch, val_ap=val_ap, at_s=at_s, train_s=seconds)
            Recorder(record).add(replace(again, trial=search.trials))


def main() -> None:
    """Searches and writes the record."""
    parser = peer_arguments(__doc__)
    parser.add_argument("--method", choices=METHODS, default="stopping")
    arguments = parser.parse_args()
    logging.getLogger("syne_tune").setLevel(logging.WARNING)
    recorder = Recorder(arguments.record)
    for seed in arguments.seeds:
        random.seed(seed)
        np.random.seed(seed)  # what Syne Tune draws from
        if arguments.curves is None:
            train(RealSearch.of(arguments, seed), arguments.method, arguments.record.resolve())
            continue
        lookup = Lookup(curves_of(arguments.curves, seed))
        asks = scheduler(lookup.space, arguments.method, seed)
        driven = Driven(lookup.space, asks, arguments.trials)
        entries = run_clock(driven, lookup.curve, arguments.workers, seed)
        for entry in [*entries, *best_to_its_end(entries, lookup)]:
            recorder.add(entry)


if __name__ == "__main__":
    main()
