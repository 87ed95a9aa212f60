"""Two to six trials side by side: their settings, metrics, curves and labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from canopy_search.dashboards.errors import ComparisonError
from canopy_search.dashboards.stats.difference import Difference, Interval, NoVerdict
from canopy_search.dashboards.stats.verdict import ap_interval, verdicts
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.dashboards.study.read_study import read_study
from canopy_search.dashboards.study.settings import differing, flat
from canopy_search.storage.database import Database
from canopy_search.storage.study.predictions import Predictions, trial_predictions
from canopy_search.storage.study.studies import StudyStore

MOST = 6

# Metrics that are not results, or that have their own table.
_NOT_RESULTS = {"val_s", "val_ap_per_label", "val_labels_without_positives"}


@dataclass(frozen=True)
class TrialChoice:
    """A trial that the user chose.

    Attributes:
        study: name of its study.
        number: number of the trial; None for the best one.
    """

    study: str
    number: int | None


@dataclass(frozen=True)
class Shown:
    """One of the compared trials.

    Attributes:
        name: ``trial 3``, or ``planet:3`` if several studies are compared.
        data: its study.
        trial: the trial.
        predictions: its predictions for the validation images, if they were kept.
        interval: interval of its AP.
        verdict: verdict against the first trial; None for the first trial itself.
    """

    name: str
    data: StudyData
    trial: TrialData
    predictions: Predictions | None
    interval: Interval | NoVerdict
    verdict: Difference | NoVerdict | None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Dotted name of a setting → value; for plain Optuna only the searched parameters."""
        record = self.data.record or {}
        parts = {key: record.get(key, {}) for key in ("data", "versions")}
        return {**flat(record.get("training", {})), **self.trial.params, **flat(parts)}

    @cached_property
    def results(self) -> dict[str, float]:
        """Metrics after its last epoch; for plain Optuna its value."""
        if not self.trial.stages:
            score = self.trial.score
            return {} if score is None else {self.data.metric: score}
        return {
            name: float(value)
            for name, value in self.trial.stages[-1].metrics.items()
            if name.startswith("val_") and name not in _NOT_RESULTS and value is not None
        }

    @cached_property
    def ap_per_label(self) -> dict[str, float]:
        """AP of each label that has one, after its last epoch."""
        return self.trial.label_ap()


@dataclass(frozen=True)
class SideBySide:
    """Trials, compared with the first one.

    Attributes:
        trials: two to six.
        looked_at: number of settings that their studies have tried.
    """

    trials: Sequence[Shown]
    looked_at: int

    @property
    def first(self) -> Shown:
        """The trial that the others are compared with."""
        return self.trials[0]

    @property
    def others(self) -> Sequence[Shown]:
        """All trials except the first."""
        return self.trials[1:]

    def is_comparable(self, shown: Shown) -> bool:
        """Whether a trial was validated on the same images as the first one, as far as is known."""
        first = self.first
        if first.predictions is not None and shown.predictions is not None:
            return first.predictions.validation.digest == shown.predictions.validation.digest
        if first.data.name == shown.data.name:
            return True
        first_data, data = ((each.data.record or {}).get("data") for each in (first, shown))
        return first_data is not None and first_data == data

    @cached_property
    def differing(self) -> dict[str, list[Any]]:
        """Settings that are not the same for all → one value per trial, None if it has none.

        Only the searched parameters of a plain Optuna trial are known; so if one is compared, other
        settings do not count as differences.
        """
        searched = {name for shown in self.trials for name in shown.trial.params}
        return {
            name: values
            for name, values in differing([shown.settings for shown in self.trials]).items()
            if name in searched or all(name in shown.settings for shown in self.trials)
        }

    @cached_property
    def results(self) -> dict[str, list[float | None]]:
        """Metric → its value for each trial."""
        names = dict.fromkeys(name for shown in self.trials for name in shown.results)
        return {name: [shown.results.get(name) for shown in self.trials] for name in names}

    @cached_property
    def labels(self) -> dict[str, list[float | None]]:
        """Label → its AP for each trial; the most frequent label first, if that is known."""
        names = dict.fromkeys(label for shown in self.trials for label in shown.ap_per_label)
        images = self.images
        ordered = sorted(names, key=lambda label: -images.get(label, 0))
        return {
            label: [shown.ap_per_label.get(label) for shown in self.trials] for label in ordered
        }

    @cached_property
    def images(self) -> dict[str, int]:
        """Label → number of validation images with it, from the first trial with predictions."""
        for shown in self.trials:
            if shown.predictions is not None:
                return shown.predictions.validation.images_by_label
        return {}

    @cached_property
    def epochs(self) -> list[int]:
        """The epochs that any trial reported."""
        return sorted({epoch for shown in self.trials for epoch, _ in shown.trial.curve})

    def as_json(self) -> dict[str, Any]:
        """Returns what ``canopy compare --json`` prints."""
        return {
            "looked_at": self.looked_at,
            "settings_that_differ": self.differing,
            "trials": [_shown_json(shown) for shown in self.trials],
        }


def compare_trials(
    store: StudyStore, database: Database, choices: Sequence[TrialChoice], read: datetime
) -> SideBySide:
    """Reads trials, and compares each with the first one.

    Args:
        store: the studies of the database.
        database: an open database.
        choices: the trials.
        read: the current time, in local time.

    Raises:
        UnknownStudyError: there is no such study.
        ComparisonError: there are too few or too many trials, or duplicates; or a study has no such
            trial, or no complete one.
    """
    if not 2 <= len(choices) <= MOST:
        raise ComparisonError(f"expected two to six trials or studies, found {len(choices)}")
    studies = {
        name: read_study(store, database, name, read)
        for name in dict.fromkeys(choice.study for choice in choices)
    }
    chosen = [(studies[each.study], _trial(studies[each.study], each)) for each in choices]
    keys = [(data.name, trial.number) for data, trial in chosen]
    for index, (study, number) in enumerate(keys):
        if (study, number) in keys[:index]:
            raise ComparisonError(f"trial {number} of study {study!r} is named twice")
    predictions = {
        (name, number): found
        for name in studies
        for number, found in trial_predictions(
            database, name, [number for study, number in keys if study == name]
        ).items()
    }
    seen = sum(data.looked_at for data in studies.values())
    found = verdicts(predictions, keys[0], keys[1:], looked_at=seen)
    return SideBySide(
        [
            Shown(
                name=f"trial {key[1]}" if len(studies) == 1 else f"{key[0]}:{key[1]}",
                data=data,
                trial=trial,
                predictions=predictions.get(key),
                interval=ap_interval(predictions[key], looked_at=seen)
                if key in predictions
                else NoVerdict("its predictions were not kept"),
                verdict=found.get(key),
            )
            for key, (data, trial) in zip(keys, chosen, strict=True)
        ],
        seen,
    )


def _trial(data: StudyData, choice: TrialChoice) -> TrialData:
    if choice.number is None:
        if data.best is None:
            raise ComparisonError(
                f"study {data.name!r} has no complete trial, so it has no best one; name one of "
                f"its trials: {data.name}:NUMBER"
            )
        return data.best
    if choice.number < len(data.trials):
        return data.trials[choice.number]
    existing = f"its trials are 0 to {len(data.trials) - 1}" if data.trials else "it has none yet"
    raise ComparisonError(f"study {data.name!r} has no trial {choice.number}; {existing}")


def _shown_json(shown: Shown) -> dict[str, Any]:
    verdict, interval = shown.verdict, shown.interval
    return {
        "study": shown.data.name,
        "number": shown.trial.number,
        "state": shown.trial.state,
        "params": dict(shown.trial.params),
        "epochs": shown.trial.epochs,
        "seconds": shown.trial.duration_s,
        "results": shown.results,
        "ap_interval": [interval.low, interval.high] if isinstance(interval, Interval) else None,
        "verdict": verdict.verdict if isinstance(verdict, Difference) else None,
        "difference": verdict.mean if isinstance(verdict, Difference) else None,
        "difference_interval": [verdict.low, verdict.high]
        if isinstance(verdict, Difference)
        else None,
        "no_verdict_since": verdict.reason if isinstance(verdict, NoVerdict) else None,
        "curve": [list(point) for point in shown.trial.curve],
        "ap_per_label": shown.ap_per_label,
    }
