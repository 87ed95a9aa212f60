"""Replays a search from a table of learning curves, without training, on a simulated clock."""

import heapq
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from canopy_search.search.config.settings import NamedSettings, default_verify
from canopy_search.search.config.space import Params, SearchSpace
from canopy_search.search.events import EpochDone
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
from canopy_search.search.scheduling.verification import verifying
from canopy_search.search.simulation.curves import CurvePoint, Curves
from canopy_search.storage.study.enqueued import EnqueuedSetting
from canopy_search.training.settings import TrainingSettings


@dataclass(frozen=True)
class SimulatedPlan:
    """The search to simulate.

    Attributes:
        sampler: by name, with parameters.
        pruner: by name, with parameters.
        n_trials: finished trials.
        workers: number of workers; each takes the table's time for an epoch.
        shares: whether trials share stages.
        enqueue: settings to try first.
        verify: share of the epochs that verify the answer; None for the pruner's default.
    """

    sampler: NamedSettings
    pruner: NamedSettings
    n_trials: int
    workers: int = 1
    shares: bool = True
    enqueue: Sequence[EnqueuedSetting] = ()
    verify: float | None = None


@dataclass(frozen=True)
class SimulatedSearch:
    """Result and cost of one simulated search.

    Attributes:
        best_ap: the best AP of a complete trial; None if no trial is complete.
        trials: finished ones.
        complete: complete ones.
        epochs_reported: by all trials.
        seconds: until the last worker is done.
        reported_s: training and validation time of all reported epochs, shared ones included.
        stages: stage keys of the trained epochs, in order.
    """

    best_ap: float | None
    trials: int
    complete: int
    epochs_reported: int
    seconds: float
    reported_s: float
    stages: tuple[str, ...]

    @property
    def epochs_trained(self) -> int:
        """Distinct epochs, which the stage tree trains."""
        return len(self.stages)


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


def simulate(
    table: Curves,
    plan: SimulatedPlan,
    seed: int,
    startup_s: Callable[[Params], float] | None = None,
    on_epoch: Callable[[SimulatedEpoch], None] | None = None,
) -> SimulatedSearch:
    """Runs one search on a table, with the real sampler, pruner and budget code.

    Args:
        table: the learning curves.
        plan: the search.
        seed: of the study.
        startup_s: parameters of a trial → seconds before its worker trains, after each claim.
        on_epoch: called for every epoch, in the order of the clock.
    """
    replay = _Replay(table, plan, seed, startup_s, on_epoch)
    replay.run()
    return replay.result()


class _Replay:
    """A search on a simulated clock."""

    def __init__(
        self,
        table: Curves,
        plan: SimulatedPlan,
        seed: int,
        startup_s: Callable[[Params], float] | None,
        on_epoch: Callable[[SimulatedEpoch], None] | None,
    ) -> None:
        self._table = table
        self._plan = plan
        self._seed = seed
        self._startup_s = startup_s
        self._on_epoch = on_epoch
        self._space = SearchSpace(TrainingSettings(), table.distributions)
        self._pruner = build_pruner(plan.pruner, table.epochs)
        storage = InMemoryStorage()
        # Hyperband's brackets depend on the name of the study.
        study = optuna.create_study(
            study_name=f"simulated {seed}",
            storage=storage,
            direction="maximize",
            pruner=self._pruner,
        )
        enqueue_once(study, plan.enqueue)
        self._opened = OpenStudy(study, storage)
        share = default_verify(plan.pruner) if plan.verify is None else plan.verify
        self._verification = verifying(share, table.epochs, self._pruner)
        self._owned: set[int] = set()
        self._now_s = 0.0
        self._known_at_s: dict[str, float] = {}  # stage key → when it is trained
        self._trained: list[str] = []
        self._reported = 0
        self._reported_s = 0.0

    def run(self) -> None:
        """Advances the clock until no worker finds anything to do."""
        events: list[tuple[float, int]] = []
        busy: dict[int, Generator[float]] = {}
        idle = list(range(self._plan.workers))
        while True:
            while idle and (trial := self._claim()) is not None:
                worker = idle.pop(0)
                self._owned.add(trial.number)
                busy[worker] = self._train(trial)
                heapq.heappush(events, (self._now_s, worker))
            if not events:
                return
            self._now_s, worker = heapq.heappop(events)
            until = next(busy[worker], None)
            if until is None:
                del busy[worker]
                idle.append(worker)
                idle.sort()
            else:
                heapq.heappush(events, (until, worker))

    def result(self) -> SimulatedSearch:
        """Ends paused trials, and returns what the search found and took."""
        end_paused(self._opened, self._plan.pruner.name)
        complete = self._opened.trials(TrialState.COMPLETE)
        return SimulatedSearch(
            best_ap=max((each.value for each in complete if each.value is not None), default=None),
            trials=finished_count(self._opened.trials()),
            complete=len(complete),
            epochs_reported=self._reported,
            seconds=self._now_s,
            reported_s=self._reported_s,
            stages=tuple(self._trained),
        )

    def _claim(self) -> optuna.trial.Trial | None:
        study, next_number = self._opened.study, len(self._opened.trials())
        study.sampler = build_sampler(self._plan.sampler, self._space, self._seed, next_number)
        found = choose_trial(
            self._opened,
            self._pruner,
            TrialRequest(self._plan.n_trials, self._owned),
            self._verification,
        )
        if isinstance(found, Idle):
            return None
        self._space.suggest(found)  # before another worker decides, as in the real loop
        return found

    def _pass_epoch(self, point: CurvePoint) -> tuple[float, float]:
        """Returns when a stage requested now is trained, and the cost of training it."""
        self._reported += 1
        self._reported_s += point.seconds
        if self._plan.shares and point.stage in self._known_at_s:
            return max(self._now_s, self._known_at_s[point.stage]), 0.0
        self._trained.append(point.stage)
        self._known_at_s[point.stage] = self._now_s + point.seconds
        return self._known_at_s[point.stage], point.seconds

    def _train(self, trial: optuna.trial.Trial) -> Generator[float]:
        """Yields the time at which each epoch of a trial ends, and then reports it."""
        params = self._space.canonical(trial.params)
        if self._startup_s is not None:
            yield self._now_s + self._startup_s(params)
        curve = self._table.curve(params)
        self._opened.set_stages(trial.number, [point.stage for point in curve])
        reported = set(
            self._opened.storage.get_trial(self._opened.trial_id(trial.number)).intermediate_values
        )
        state, val_ap = TrialState.COMPLETE, None
        for epoch, point in enumerate(curve, start=1):
            if epoch not in reported:
                known_s, train_s = self._pass_epoch(point)
                yield known_s
                if self._on_epoch is not None:
                    self._on_epoch(
                        SimulatedEpoch(
                            trial.number, params, epoch, point.val_ap, self._now_s, train_s
                        )
                    )
            if point.val_ap is None:
                state = TrialState.PRUNED
                break
            val_ap = point.val_ap
            decision = report_and_decide(
                trial, self._pruner, EpochDone(epoch, self._table.epochs, val_ap), reported
            )
            if decision is Decision.PAUSE:
                self._owned.discard(trial.number)
                return
            if decision is Decision.STOP:
                state = TrialState.PRUNED
                break
        value = val_ap if state == TrialState.COMPLETE else None
        self._opened.study.tell(trial, value, state=state)
        self._owned.discard(trial.number)
