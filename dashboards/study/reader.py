"""A study as pages show it: Canopy's own, or one that plain Optuna wrote."""

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
        summary: what `canopy trials` says of it.
        score: what it came to: validation AP after its last epoch, or what plain Optuna was told.
        curve: (epoch, score) of all that it reported.
        stages: its epochs as we recorded them; none of a trial of plain Optuna.
        began: when, in local time.
        ended: when, in local time.
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
        """Its setting."""
        return self.summary.params

    @property
    def is_complete(self) -> bool:
        """Whether it ran to its end."""
        return self.summary.state == TrialState.COMPLETE.name

    @property
    def ended_early(self) -> bool:
        """Whether it was pruned, or pauses."""
        return self.summary.state in _ENDED_EARLY

    @property
    def epochs(self) -> int:
        """The last epoch that it reported."""
        return self.curve[-1][0] if self.curve else 0

    @property
    def seconds(self) -> float | None:
        """What its epochs take to train from the start; None where nobody knows."""
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
        summary: what `canopy status` says of it.
        trials: in the order of their numbers.
        distributions: of its parameters, by their names.
        metric: what a score is, as a few words.
        higher_is_better: whether a score is maximised.
        objectives: how many values plain Optuna was told of each trial; the first one is shown.
        record: what a study of ours began with.
        predictions: of some trials, by their numbers.
        confirmation: what further seeds said of its finalists, if that was asked for.
        read: when, in local time.
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
        """What trials report after: an epoch of ours, or whatever plain Optuna calls a step."""
        return "epoch" if self.is_ours else "step"

    @property
    def is_ours(self) -> bool:
        """Whether Canopy trained its trials."""
        return self.record is not None

    @cached_property
    def scored(self) -> list[TrialData]:
        """The trials that have a score, however far they came."""
        return [trial for trial in self.trials if trial.score is not None]

    @cached_property
    def ranking(self) -> list[TrialData]:
        """The complete trials, the best first, the earlier of equals first."""
        complete = [trial for trial in self.scored if trial.is_complete]
        return sorted(complete, key=lambda trial: (-self.worth(trial.score), trial.number))

    @cached_property
    def best_settings(self) -> list[TrialData]:
        """The ranking with each setting once: a sampler may try one again."""
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
        """The best complete trial of another setting."""
        return self.best_settings[1] if len(self.best_settings) > 1 else None

    @property
    def leader(self) -> TrialData | None:
        """The best complete trial; before there is one, the best of those that go on or ended."""
        if self.best is not None or not self.scored:
            return self.best
        return max(self.scored, key=lambda t: (t.epochs, self.worth(t.score), -t.number))

    @cached_property
    def baseline(self) -> TrialData | None:
        """The first trial of the setting that the search was to improve, if it was tried.

        That is the first setting that was enqueued when the study began; where none was, it is
        what the configuration says of one run.
        """
        config = (self.record or {}).get("config", {}).get("search", {})
        enqueued = baseline_params(config.get("enqueue"))
        fixed = (self.record or {}).get("training", {})
        wanted = enqueued or {name: _at(fixed, name) for name in config.get("space") or {}}
        for trial in self.scored:
            if wanted and wanted.items() <= trial.params.items():
                return trial
        return None

    @property
    def planned_epochs(self) -> int:
        """How many epochs a trial has that is not stopped."""
        planned = (self.record or {}).get("training", {}).get("epochs")
        return int(planned or max((trial.epochs for trial in self.trials), default=0))

    @property
    def numeric(self) -> list[str]:
        """The parameters that are numbers."""
        numbers = (FloatDistribution, IntDistribution)
        return [name for name, domain in self.distributions.items() if isinstance(domain, numbers)]

    @property
    def categorical(self) -> dict[str, list[Any]]:
        """The parameters that are choices, and what there is to choose."""
        return {
            name: list(domain.choices)
            for name, domain in self.distributions.items()
            if isinstance(domain, CategoricalDistribution)
        }

    def worth(self, score: float | None) -> float:
        """Returns a score so that more is better; without one, nothing is worse."""
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
    """Reads a study, and the predictions of those trials that a page goes into.

    Args:
        store: of the database.
        database: opened.
        name: of the study.
        read: the time now, in local time.
        reader: of the study, of whoever reads it again and again.

    Raises:
        UnknownStudyError: there is none of that name.
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
            trial_data(each, frozen[each.number], epochs.get(each.number, []))
            for each in summary.trials
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
        trial: as Optuna has it.
        epochs: that we recorded of it.
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
    """Whether a score is one: neither missing, nor infinite, nor not a number."""
    return isinstance(score, int | float) and math.isfinite(score)


def _at(settings: Mapping[str, Any], name: str) -> Any:
    """Returns a setting by its dotted name."""
    for part in name.split("."):
        if not isinstance(settings, Mapping):
            return None
        settings = settings.get(part)  # type: ignore[assignment]
    return settings
