"""A study and its trials, as all that show them read them, and the rule for the best trial.

The study is Canopy's or one of plain Optuna.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from canopy_search.dashboards.study.baseline import baseline
from canopy_search.storage.study.epochs import EpochRecord
from canopy_search.storage.study.predictions import Predictions
from canopy_search.storage.study.trial_attributes import DIVERGED, INTERRUPTED, OVERTIME, PAUSED
from canopy_search.storage.workers.control import STOP_FINISHING, STOP_PRUNING
from canopy_search.storage.workers.registry import WorkerSummary, as_json

if TYPE_CHECKING:
    from canopy_search.dashboards.study.confirmation import Confirmation

_ENDED = {TrialState.COMPLETE.name, TrialState.PRUNED.name, TrialState.FAIL.name}
_ENDED_EARLY = {TrialState.PRUNED.name, PAUSED}


@dataclass(frozen=True)
class TrialData:
    """One trial.

    Attributes:
        number: in its study.
        state: Optuna's name of the state, or ``PAUSED`` or ``INTERRUPTED``.
        params: dotted name of a parameter → value.
        val_ap: validation AP after the last epoch; None before the first.
        reason: why it was pruned or failed.
        metrics: one mapping per epoch.
        epochs_trained: epochs trained for this trial, repeated ones included.
        epochs_replayed: epochs that were reused, not trained.
        epochs_resumed: epochs that a checkpoint saved from being trained again.
        trained_s: training and validation time spent on this trial, in seconds.
        promoted_from: the pruned trial that it continues, if the user promoted one.
        ended: end, in local time.
        began: start, in local time.
        value: the value reported to plain Optuna, if Canopy trained none of its epochs.
        verifies: why it was started or resumed to verify the answer, if it was.
        epochs_verifying: epochs trained for that.
        curve: (epoch, score) of every report.
        stages: its epochs as Canopy recorded them; empty for a trial of plain Optuna.
        accumulation: how its batches were split because memory ran out; see
            `TrainingSettings.accumulation`.
    """

    number: int
    state: str
    params: dict[str, Any]
    val_ap: float | None
    reason: str | None
    metrics: list[dict[str, Any]]
    epochs_trained: int
    epochs_replayed: int = 0
    epochs_resumed: int = 0
    trained_s: float = 0.0
    promoted_from: int | None = None
    ended: datetime | None = None
    began: datetime | None = None
    value: float | None = None
    verifies: str | None = None
    epochs_verifying: int = 0
    curve: tuple[tuple[int, float], ...] = ()
    stages: tuple[EpochRecord, ...] = ()
    accumulation: Sequence[Sequence[int]] = ()

    @property
    def score(self) -> float | None:
        """Validation AP, or the value of a trial of plain Optuna."""
        return self.value if self.val_ap is None else self.val_ap

    @property
    def has_gone_wrong(self) -> bool:
        """Whether it failed, diverged or ran out of time."""
        is_wrong = self.reason is not None and self.reason.startswith((DIVERGED, OVERTIME))
        return is_wrong or self.state == TrialState.FAIL.name

    @property
    def seconds(self) -> float:
        """Training and validation time of its epochs, reused ones included."""
        return sum(training_s(epoch) for epoch in self.metrics)

    @property
    def is_complete(self) -> bool:
        """Whether it was fully trained."""
        return self.state == TrialState.COMPLETE.name

    @property
    def has_ended(self) -> bool:
        """Whether it is complete, pruned or failed."""
        return self.state in _ENDED

    @property
    def ended_early(self) -> bool:
        """Whether it was pruned or is paused."""
        return self.state in _ENDED_EARLY

    @property
    def epochs(self) -> int:
        """The last epoch that was reported."""
        return self.curve[-1][0] if self.curve else 0

    @property
    def duration_s(self) -> float | None:
        """Seconds to train its epochs from the start; None if unknown."""
        if self.stages:
            return self.seconds
        if self.is_complete and self.began and self.ended:
            return max(0.0, (self.ended - self.began).total_seconds())
        return None

    def score_at(self, epoch: int) -> float | None:
        """Returns its score after an epoch."""
        return dict(self.curve).get(epoch)

    def label_ap(self, epoch: int | None = None) -> dict[str, float]:
        """Returns label → AP after an epoch, the last one by default, for labels that have one."""
        for stage in reversed(self.stages):
            if epoch in {None, stage.epoch}:
                found: Mapping[str, float | None] = stage.metrics.get("val_ap_per_label") or {}
                return {label: ap for label, ap in found.items() if ap is not None}
        return {}

    def as_json(self) -> dict[str, Any]:
        """Returns what ``canopy trials --json`` prints for it."""
        return {
            "number": self.number,
            "state": self.state,
            "params": self.params,
            "val_ap": self.val_ap,
            "value": self.value,
            "reason": self.reason,
            "promoted_from": self.promoted_from,
            "verifies": self.verifies,
            "epochs_reported": len(self.metrics),
            "epochs_trained": self.epochs_trained,
            "epochs_replayed": self.epochs_replayed,
            "epochs_resumed": self.epochs_resumed,
            "seconds": self.seconds,
            "trained_s": self.trained_s,
            "metrics": self.metrics,
        }


@dataclass(frozen=True)
class StudyData:
    """A study and all its trials.

    Attributes:
        name: its name.
        trials: in the order of their numbers.
        workers: current and former ones, the earliest first.
        control: the user's last request; see `storage.workers.control`.
        target: requested number of finished trials; None if never requested.
        distributions: parameter name → distribution.
        read: when the study was read, in local time.
        metric: name of the score, in a few words.
        higher_is_better: whether a score is maximised.
        objectives: how many values each trial has in plain Optuna; only the first is shown.
        record: what a study of Canopy started with; None for plain Optuna.
        predictions: trial number → validation predictions, of some trials, where `read_study` read
            them.
        confirmation: results of the finalists with additional seeds, likewise.
    """

    name: str
    trials: Sequence[TrialData]
    workers: Sequence[WorkerSummary]
    control: str
    target: int | None
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    read: datetime = datetime.min
    metric: str = "validation AP"
    higher_is_better: bool = True
    objectives: int = 1
    record: dict[str, Any] | None = None
    predictions: Mapping[int, Predictions] = field(default_factory=dict)
    confirmation: "Confirmation | None" = None

    def count(self, *states: TrialState) -> int:
        """Returns the number of trials in any of `states`."""
        names = {state.name for state in states}
        return sum(trial.state in names for trial in self.trials)

    @property
    def is_searched(self) -> bool:
        """Whether any worker is active."""
        return any(worker.is_living for worker in self.workers)

    @property
    def is_over(self) -> bool:
        """Whether no more trials start; some may still run."""
        is_stopped = self.control in {STOP_FINISHING, STOP_PRUNING}
        return is_stopped or self.target is None or self.finished >= self.target

    @property
    def paused(self) -> int:
        """Number of trials that wait at a rung."""
        return sum(trial.state == PAUSED for trial in self.trials)

    @property
    def interrupted(self) -> list[TrialData]:
        """The trials whose worker was lost; the next free worker resumes them."""
        return [trial for trial in self.trials if trial.state == INTERRUPTED]

    @property
    def failures(self) -> list[TrialData]:
        """The trials that failed, diverged or ran out of time, the latest first."""
        wrong = [trial for trial in self.trials if trial.has_gone_wrong]
        return sorted(wrong, key=lambda t: (t.ended or datetime.min, t.number), reverse=True)

    @property
    def finished(self) -> int:
        """Number of trials that count towards the target: complete and pruned ones."""
        return self.count(TrialState.COMPLETE, TrialState.PRUNED)

    @property
    def counts(self) -> dict[str, int]:
        """Word for a state → number of trials in it."""
        return {
            "complete": self.count(TrialState.COMPLETE),
            "pruned": self.count(TrialState.PRUNED),
            "failed": self.count(TrialState.FAIL),
            "running": self.count(TrialState.RUNNING),
            "interrupted": len(self.interrupted),
            "paused": self.paused,
            "waiting": self.count(TrialState.WAITING),
            "finished": self.finished,
        }

    @property
    def epochs_reported(self) -> int:
        """Number of epochs that trials reported."""
        return sum(len(trial.metrics) for trial in self.trials)

    @property
    def epochs_trained(self) -> int:
        """Number of epochs that were trained, repeated ones included."""
        return sum(trial.epochs_trained for trial in self.trials)

    @property
    def epochs_replayed(self) -> int:
        """Number of reported epochs that were reused, not trained."""
        return sum(trial.epochs_replayed for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Training and validation time spent on the study."""
        return sum(trial.trained_s for trial in self.trials)

    @property
    def looked_at(self) -> int:
        """How many settings have a score; the best was chosen from them, pruned ones included."""
        return len({repr(trial.params) for trial in self.trials if trial.val_ap is not None})

    @property
    def step(self) -> str:
        """What trials report after: Canopy's ``epoch`` or plain Optuna's ``step``."""
        return "epoch" if self.is_ours else "step"

    @property
    def is_ours(self) -> bool:
        """Whether Canopy trained its trials."""
        return self.record is not None

    @cached_property
    def scored(self) -> list[TrialData]:
        """The trials that have a score, complete or not."""
        return [trial for trial in self.trials if trial.score is not None]

    @cached_property
    def ranking(self) -> list[TrialData]:
        """The complete trials, the best first; of equals, the earlier first."""
        complete = [trial for trial in self.scored if trial.is_complete]
        return sorted(complete, key=lambda trial: (-self.worth(trial.score), trial.number))

    @cached_property
    def best_settings(self) -> list[TrialData]:
        """The ranking with each setting once; a sampler may repeat one."""
        first: dict[str, TrialData] = {}
        for trial in self.ranking:
            first.setdefault(repr(trial.params), trial)
        return list(first.values())

    @property
    def best(self) -> TrialData | None:
        """The best complete trial."""
        return next(iter(self.ranking), None)

    @property
    def runner_up(self) -> TrialData | None:
        """The best complete trial with another setting."""
        return self.best_settings[1] if len(self.best_settings) > 1 else None

    @property
    def leader(self) -> TrialData | None:
        """The best complete trial; before there is one, the best of the longest trained."""
        if self.best is not None or not self.scored:
            return self.best
        return max(self.scored, key=lambda t: (t.epochs, self.worth(t.score), -t.number))

    @cached_property
    def baseline(self) -> TrialData | None:
        """The trial with the setting that the search should improve; see `study.baseline`."""
        found = None if self.record is None else baseline(self.trials, self.record)
        tried = None if found is None else found.trial
        return None if tried is None or tried.score is None else tried

    @property
    def planned_epochs(self) -> int:
        """Number of epochs of a fully trained trial."""
        planned = (self.record or {}).get("training", {}).get("epochs")
        return int(planned or max((trial.epochs for trial in self.trials), default=0))

    @property
    def numeric(self) -> list[str]:
        """Names of the numeric parameters."""
        numbers = (FloatDistribution, IntDistribution)
        return [name for name, domain in self.distributions.items() if isinstance(domain, numbers)]

    @property
    def categorical(self) -> dict[str, list[Any]]:
        """Name of each categorical parameter → its choices."""
        return {
            name: list(domain.choices)
            for name, domain in self.distributions.items()
            if isinstance(domain, CategoricalDistribution)
        }

    def worth(self, score: float | None) -> float:
        """Returns a score signed so that more is better; minus infinity without one."""
        if score is None:
            return -math.inf
        return score if self.higher_is_better else -score

    def as_json(self) -> dict[str, Any]:
        """Returns what ``canopy status --json`` prints."""
        best = self.best
        return {
            "study": self.name,
            "trials": self.counts,
            "best": best
            and {
                "number": best.number,
                "val_ap": best.val_ap,
                "value": best.value,
                "params": best.params,
            },
            "epochs": {
                "reported": self.epochs_reported,
                "trained": self.epochs_trained,
                "replayed": self.epochs_replayed,
            },
            "seconds": self.seconds,
            "control": self.control,
            "target": self.target,
            "workers": [as_json(worker) for worker in self.workers],
            "failures": [
                {"number": trial.number, "state": trial.state, "reason": trial.reason}
                for trial in self.failures
            ],
        }


def training_s(metrics: Mapping[str, Any]) -> float:
    """Returns training and validation time of an epoch, in seconds; 0 if it is unknown."""
    return float((metrics.get("train_s") or 0.0) + (metrics.get("val_s") or 0.0))
