"""A study as pages show it, written by Canopy or by plain Optuna."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, TypeGuard

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from canopy_search.dashboards.study.confirmation import Confirmation, last_confirmation
from canopy_search.dashboards.study.summary import StudyReader, StudySummary, TrialSummary
from canopy_search.storage.database import Database
from canopy_search.storage.study.enqueued import baseline_params
from canopy_search.storage.study.epochs import EpochRecord
from canopy_search.storage.study.predictions import Predictions, trial_predictions
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import PAUSED

_ENDED_EARLY = {TrialState.PRUNED.name, PAUSED}


@dataclass(frozen=True)
class TrialData:
    """One trial.

    Attributes:
        summary: the data of `canopy trials`.
        score: validation AP after the last epoch, or the value reported to plain Optuna.
        curve: (epoch, score) of every report.
        stages: its epochs as Canopy recorded them; empty for a trial of plain Optuna.
        began: start, in local time.
        ended: end, in local time.
    """

    summary: TrialSummary
    score: float | None
    curve: tuple[tuple[int, float], ...] = ()
    stages: tuple[EpochRecord, ...] = ()
    began: datetime | None = None
    ended: datetime | None = None

    @property
    def number(self) -> int:
        """Its number in the study."""
        return self.summary.number

    @property
    def params(self) -> Mapping[str, Any]:
        """Its parameters."""
        return self.summary.params

    @property
    def is_complete(self) -> bool:
        """Whether it was fully trained."""
        return self.summary.state == TrialState.COMPLETE.name

    @property
    def ended_early(self) -> bool:
        """Whether it was pruned or is paused."""
        return self.summary.state in _ENDED_EARLY

    @property
    def epochs(self) -> int:
        """The last epoch that was reported."""
        return self.curve[-1][0] if self.curve else 0

    @property
    def seconds(self) -> float | None:
        """Time to train its epochs from the start; None if unknown."""
        if self.stages:
            return self.summary.seconds
        if self.is_complete and self.began and self.ended:
            return max(0.0, (self.ended - self.began).total_seconds())
        return None

    def score_at(self, epoch: int) -> float | None:
        """Returns its score after an epoch."""
        return dict(self.curve).get(epoch)


@dataclass(frozen=True)
class StudyData:
    """A study and all its trials.

    Attributes:
        summary: the data of `canopy status`.
        trials: in the order of their numbers.
        distributions: parameter name → distribution.
        metric: name of the score, in a few words.
        higher_is_better: whether a score is maximised.
        objectives: how many values each trial has in plain Optuna; only the first is shown.
        record: what a study of Canopy started with; None for plain Optuna.
        predictions: trial number → validation predictions, of some trials.
        confirmation: results of the finalists with additional seeds, if requested.
        read: when the study was read, in local time.
    """

    summary: StudySummary
    trials: Sequence[TrialData]
    distributions: Mapping[str, BaseDistribution]
    read: datetime
    metric: str = "validation AP"
    higher_is_better: bool = True
    objectives: int = 1
    record: Mapping[str, Any] | None = None
    predictions: Mapping[int, Predictions] = field(default_factory=dict)
    confirmation: Confirmation | None = None

    @property
    def name(self) -> str:
        """The study's name."""
        return self.summary.study

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
        """The first trial with the setting that the search should improve, if it was tried.

        That is the first setting that was enqueued when the study started, else the setting under
        `training`.
        """
        config = (self.record or {}).get("config", {}).get("search", {})
        enqueued = baseline_params(config.get("enqueue"))
        fixed = (self.record or {}).get("training", {})
        given = enqueued or {name: _setting_at(fixed, name) for name in config.get("space") or {}}
        for trial in self.scored:
            if given and given.items() <= trial.params.items():
                return trial
        return None

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


def read_study(
    store: StudyStore,
    database: Database,
    name: str,
    read: datetime,
    reader: StudyReader | None = None,
) -> StudyData:
    """Reads a study, with the predictions of the trials that pages show in detail.

    Args:
        store: the studies of the database.
        database: an open one.
        name: the study's name.
        read: the time now, in local time.
        reader: an existing reader of the study, if it is read repeatedly.

    Raises:
        UnknownStudyError: no study has that name.
    """
    reader = reader or StudyReader(store, name)
    summary = reader.read()
    epochs = reader.epochs
    record = store.read_record(name)
    study = store.load_study(name)
    frozen = {trial.number: trial for trial in reader.trials}
    names = study.metric_names
    data = StudyData(
        summary=summary,
        trials=[
            trial_data(trial, frozen[trial.number], epochs.get(trial.number, []))
            for trial in summary.trials
        ],
        distributions=_distributions(list(frozen.values())),
        read=read,
        metric="validation AP" if record is not None else names[0] if names else "value",
        higher_is_better=study.directions[0].name != "MINIMIZE",
        objectives=len(study.directions),
        record=record,
    )
    numbers = [t.number for t in (data.best, data.runner_up, data.baseline) if t is not None]
    predictions = trial_predictions(database, name, numbers) if data.is_ours else {}
    confirmation = None
    if record is not None and "config" in record:
        confirmation = last_confirmation(database, summary, record)
    return replace(data, predictions=predictions, confirmation=confirmation)


def trial_data(
    summary: TrialSummary, trial: FrozenTrial, epochs: Sequence[EpochRecord]
) -> TrialData:
    """Returns a trial as pages show it.

    Args:
        summary: of the trial.
        trial: Optuna's trial.
        epochs: its epochs that Canopy recorded.
    """
    reported = [epoch for epoch in epochs if epoch.epoch in trial.intermediate_values]
    if reported:
        pairs = [(epoch.epoch, epoch.metrics.get("val_ap")) for epoch in reported]
    else:
        pairs = sorted(trial.intermediate_values.items())
    curve = tuple((epoch, float(score)) for epoch, score in pairs if is_number(score))
    return TrialData(
        summary=summary,
        score=summary.score,
        curve=curve,
        stages=tuple(reported),
        began=trial.datetime_start,
        ended=trial.datetime_complete,
    )


def _distributions(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """Returns the latest distribution of each parameter."""
    return {name: domain for trial in trials for name, domain in trial.distributions.items()}


def is_number(score: Any) -> TypeGuard[float]:
    """Whether a score is a finite number."""
    return isinstance(score, int | float) and math.isfinite(score)


def _setting_at(settings: Mapping[str, Any], name: str) -> Any:
    """Returns the value of a dotted name; None if there is none."""
    for part in name.split("."):
        if not isinstance(settings, Mapping):
            return None
        settings = settings.get(part)  # type: ignore[assignment]
    return settings
