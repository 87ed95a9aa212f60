"""Replays a search from a table of learning curves, without training, on a simulated clock."""

import heapq
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from canopy_search.search.config.settings import NamedSettings, default_verify
from canopy_search.search.config.space import Params, SearchSpace
from canopy_search.search.scheduling.decision import Decision, report_and_decide
from canopy_search.search.scheduling.factory import build_pruner, build_sampler
from canopy_search.search.scheduling.next_trial import (
    Idle,
    TrialRequest,
    choose_trial,
    end_paused,
    enqueue_once,
    finished_count,
)
from canopy_search.search.scheduling.open_study import OpenStudy
from canopy_search.search.scheduling.verification import Verification, verifying
from canopy_search.search.simulation.curves import Curves
from canopy_search.storage.study.enqueued import EnqueuedSetting
from canopy_search.training.settings import TrainingSettings


@dataclass(frozen=True)
class SimulatedSearch:
    """Result and cost of one simulated search.

    Attributes:
        best_ap: the best AP of a complete trial; None if no trial is complete.
        trials: finished ones.
        complete: complete ones.
        epochs_reported: by all trials.
        epochs_trained: distinct ones, which the stage tree trains.
        seconds: until the last worker is done.
        reported_s: training and validation time of all reported epochs, shared ones included.
        stages: stage keys of the trained epochs, in order.
        claims: how often a worker started or resumed a trial.
    """

    best_ap: float | None
    trials: int
    complete: int
    epochs_reported: int
    epochs_trained: int
    seconds: float
    reported_s: float
    stages: tuple[str, ...]
    claims: int


@dataclass(frozen=True)
class SimulatedEpoch:
    """One epoch of a simulated trial.

    Attributes:
        trial: its number.
        params: its setting, by dotted name.
        epoch: counts from 1.
        val_ap: validation AP after it; None where the run diverged.
        at_s: when it ends, in simulated seconds since the start.
        train_s: its cost; 0 if it was reused from another trial.
    """

    trial: int
    params: dict[str, Any]
    epoch: int
    val_ap: float | None
    at_s: float
    train_s: float


@dataclass
class _Clock:
    """Simulated time, and when every stage is trained.

    Attributes:
        now: seconds since the start.
        known_at: stage key → when it is trained.
        shares: whether trials share stages.
        reported: epochs reported so far.
        trained: stage keys of the epochs trained so far.
        reported_s: time that all reported epochs would take, in seconds.
        claims: how often a trial was started or resumed so far.
    """

    shares: bool
    now: float = 0.0
    known_at: dict[str, float] = field(default_factory=dict)
    reported: int = 0
    trained: list[str] = field(default_factory=list)
    reported_s: float = 0.0
    claims: int = 0

    def train(self, stage: str, seconds: float) -> tuple[float, float]:
        """Returns when a stage requested now is trained, and the cost of training it."""
        self.reported += 1
        self.reported_s += seconds
        if self.shares and stage in self.known_at:
            return max(self.now, self.known_at[stage]), 0.0
        self.trained.append(stage)
        self.known_at[stage] = self.now + seconds
        return self.known_at[stage], seconds


def simulate(
    table: Curves,
    sampler: NamedSettings,
    pruner: NamedSettings,
    *,
    n_trials: int,
    seed: int,
    workers: int = 1,
    shares: bool = True,
    enqueue: Sequence[EnqueuedSetting] = (),
    startup_s: Callable[[Params], float] | None = None,
    on_epoch: Callable[[SimulatedEpoch], None] | None = None,
    verify: float | None = None,
) -> SimulatedSearch:
    """Runs one search on a table, with the real sampler, pruner and budget code.

    Args:
        table: the learning curves.
        sampler: by name, with parameters.
        pruner: by name, with parameters.
        n_trials: finished trials.
        seed: of the study.
        workers: number of workers; each takes the table's time for an epoch.
        shares: whether trials share stages.
        enqueue: settings to try first.
        startup_s: parameters of a trial → seconds before its worker trains, after each claim.
        on_epoch: called for every epoch, in the order of the clock.
        verify: share of the epochs that verify the answer; None for the pruner's default.
    """
    storage = InMemoryStorage()
    built = build_pruner(pruner, table.epochs)
    # Hyperband's brackets depend on the name of the study.
    name = f"simulated {seed}"
    study = optuna.create_study(
        study_name=name, storage=storage, direction="maximize", pruner=built
    )
    enqueue_once(study, enqueue)
    opened, clock = OpenStudy(study, storage), _Clock(shares)
    share = default_verify(pruner) if verify is None else verify
    verification = verifying(share, table.epochs, built)
    replay = _Replay(
        table, opened, built, sampler, n_trials, seed, verification, clock, startup_s, on_epoch
    )
    replay.run(workers)
    end_paused(replay.opened, pruner.name)
    complete = replay.opened.trials(TrialState.COMPLETE)
    return SimulatedSearch(
        best_ap=max((trial.value for trial in complete if trial.value is not None), default=None),
        trials=finished_count(study),
        complete=len(complete),
        epochs_reported=clock.reported,
        epochs_trained=len(clock.trained),
        seconds=clock.now,
        reported_s=clock.reported_s,
        stages=tuple(clock.trained),
        claims=clock.claims,
    )


@dataclass
class _Replay:
    table: Curves
    opened: OpenStudy
    pruner: BasePruner
    sampler: NamedSettings
    n_trials: int
    seed: int
    verification: Verification | None
    clock: _Clock
    startup_s: Callable[[Params], float] | None = None
    on_epoch: Callable[[SimulatedEpoch], None] | None = None
    owned: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._space = SearchSpace(TrainingSettings(), self.table.distributions)

    def run(self, workers: int) -> None:
        """Advances the clock until no worker finds anything to do."""
        events: list[tuple[float, int]] = []
        busy: dict[int, Generator[float]] = {}
        idle = list(range(workers))
        while True:
            while idle and (trial := self._claim()) is not None:
                worker = idle.pop(0)
                self.owned.add(trial.number)
                busy[worker] = self._train(trial)
                heapq.heappush(events, (self.clock.now, worker))
            if not events:
                return
            self.clock.now, worker = heapq.heappop(events)
            until = next(busy[worker], None)
            if until is None:
                del busy[worker]
                idle.append(worker)
                idle.sort()
            else:
                heapq.heappush(events, (until, worker))

    def _claim(self) -> optuna.trial.Trial | None:
        next_number = len(self.opened.trials())
        self.opened.study.sampler = build_sampler(self.sampler, self._space, self.seed, next_number)
        found = choose_trial(
            self.opened, self.pruner, TrialRequest(self.n_trials, self.owned), self.verification
        )
        if isinstance(found, Idle):
            return None
        self._space.suggest(found)  # before another worker decides, as in the real loop
        return found

    def _train(self, trial: optuna.trial.Trial) -> Generator[float]:
        """Yields the time at which each epoch of a trial ends, and then reports it."""
        params = self._space.canonical(trial.params)
        self.clock.claims += 1
        if self.startup_s is not None:
            yield self.clock.now + self.startup_s(params)
        curve = self.table.curve(params)
        self.opened.set_stages(trial.number, [point.stage for point in curve])
        reported = set(
            self.opened.storage.get_trial(self.opened.trial_id(trial.number)).intermediate_values
        )
        state, val_ap = TrialState.COMPLETE, None
        for epoch, point in enumerate(curve, start=1):
            if epoch not in reported:
                known_s, train_s = self.clock.train(point.stage, point.seconds)
                yield known_s
                if self.on_epoch is not None:
                    self.on_epoch(
                        SimulatedEpoch(
                            trial.number, params, epoch, point.val_ap, self.clock.now, train_s
                        )
                    )
            if point.val_ap is None:
                state = TrialState.PRUNED
                break
            val_ap = point.val_ap
            decision = report_and_decide(
                trial, self.pruner, epoch, self.table.epochs, val_ap, reported=reported
            )
            if decision is Decision.PAUSE:
                self.owned.discard(trial.number)
                return
            if decision is Decision.STOP:
                state = TrialState.PRUNED
                break
        value = val_ap if state == TrialState.COMPLETE else None
        self.opened.study.tell(trial, value, state=state)
        self.owned.discard(trial.number)
