"""Results of the finalists with additional seeds: means, spreads, the winner and its lead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import TrialState

from canopy_search.dashboards.stats.bootstrap import resample_ap
from canopy_search.dashboards.stats.difference import Difference, Spread
from canopy_search.dashboards.stats.seeds import paired_difference, spread
from canopy_search.dashboards.study.baseline import SEED, setting_of
from canopy_search.dashboards.study.finalists import Candidate, additional_seeds, candidates
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.dashboards.study.reader import read_trials
from canopy_search.storage.database import Database
from canopy_search.storage.study.confirmations import ConfirmationStore
from canopy_search.storage.study.predictions import Predictions, trial_predictions
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import DIVERGED

METHOD = (
    "mean ± standard deviation over the seeds, and the 95 % t interval of the mean; differences "
    "are paired by seed, with Student's t, plus the bootstrap of the validation images where their "
    "predictions are stored"
)


@dataclass(frozen=True)
class Run:
    """A setting trained with one seed until its last epoch, or until it diverged.

    Attributes:
        seed: of the run.
        trial: its number in the confirming study.
        val_ap: validation AP after the last epoch; None if it diverged.
        reason: why it diverged.
        test: scores on test; None if no images were held out.
        last: metrics of the last epoch.
        accumulation: how its batches were split; see `TrainingSettings.accumulation`.
    """

    seed: int
    trial: int
    val_ap: float | None
    reason: str | None
    test: dict[str, Any] | None
    last: dict[str, Any]
    accumulation: Sequence[Sequence[int]] = ()

    @property
    def test_ap(self) -> float | None:
        """AP on test, if it was scored."""
        return None if self.test is None else self.test["test_ap"]

    def as_json(self) -> dict[str, Any]:
        """Returns JSON values by name."""
        return {
            SEED: self.seed,
            "trial": self.trial,
            "val_ap": self.val_ap,
            "reason": self.reason,
            "test_ap": self.test_ap,
            "test": self.test,
        }


@dataclass(frozen=True)
class Confirmed:
    """A setting with the results of its runs.

    Attributes:
        candidate: the setting.
        runs: in the order of the seeds; missing ones are not trained yet.
    """

    candidate: Candidate
    runs: tuple[Run, ...]

    @cached_property
    def val_ap(self) -> Spread | None:
        """Validation AP over the seeds; None if a run diverged or there is no run."""
        return _spread([run.val_ap for run in self.runs])

    @cached_property
    def test_ap(self) -> Spread | None:
        """AP on test over the seeds; None if one is missing."""
        return _spread([run.test_ap for run in self.runs])

    def as_json(self) -> dict[str, Any]:
        """Returns JSON values by name."""
        return {
            "trial": self.candidate.trial,
            "params": self.candidate.params,
            "finalist": self.candidate.is_finalist,
            "baseline": self.candidate.is_baseline,
            "searched_epochs": self.candidate.searched_epochs,
            "searched_val_ap": self.candidate.searched_ap,
            "val_ap": self.val_ap and self.val_ap.as_json(),
            "test_ap": self.test_ap and self.test_ap.as_json(),
            "runs": [run.as_json() for run in self.runs],
        }


@dataclass(frozen=True)
class Confirmation:
    """The finalists and the baseline of a study, with additional seeds.

    Attributes:
        study: the searched study.
        confirming: the study that holds the runs as trials.
        top: requested number of finalists.
        seeds: of the runs.
        settings: the best mean first; settings without a mean come last.
        predictions: trial of `confirming` → its validation predictions, if stored.
        ended: all runs that have ended with their settings, those of former finalists included.
    """

    study: str
    confirming: str
    top: int
    seeds: tuple[int, ...]
    settings: tuple[Confirmed, ...]
    predictions: Mapping[int, Predictions]
    ended: Sequence[tuple[Mapping[str, Any], Run]] = ()

    def runs_of(self, params: Mapping[str, Any]) -> tuple[Run, ...]:
        """Returns all runs of a setting that have ended, ordered by seed."""
        return _runs_of(setting_of(params), self.ended)

    @property
    def missing(self) -> list[dict[str, Any]]:
        """The runs that are not trained yet: settings with their seed."""
        return [
            {**each.candidate.params, SEED: seed}
            for each in self.settings
            for seed in self.seeds
            if all(run.seed != seed for run in each.runs)
        ]

    @property
    def wanted(self) -> list[dict[str, Any]]:
        """All requested runs: settings with their seed.

        One setting after the other: runs with the same seed share their first epochs, so workers
        that start them at the same time would wait for each other.
        """
        return [
            {**each.candidate.params, SEED: seed} for each in self.settings for seed in self.seeds
        ]

    @property
    def is_complete(self) -> bool:
        """Whether every run has ended."""
        return not self.missing

    @property
    def finalists(self) -> int:
        """Number of finalists; fewer than requested if there were no more."""
        return sum(each.candidate.is_finalist for each in self.settings)

    @property
    def winner(self) -> Confirmed | None:
        """The setting with the best mean, possibly the baseline; None until every run ended."""
        if not self.is_complete or self.settings[0].val_ap is None:
            return None
        return self.settings[0]

    @property
    def second(self) -> Confirmed | None:
        """The setting with the second-best mean, if there is one."""
        others = [each for each in self.settings[1:] if each.val_ap is not None]
        return others[0] if self.winner and others else None

    @property
    def base(self) -> Confirmed:
        """The baseline."""
        return next(each for each in self.settings if each.candidate.is_baseline)

    @cached_property
    def against_second(self) -> Difference | None:
        """How much better the winner is than the second, if both have a mean.

        There is no correction for having chosen them: if several settings are equal, the two at
        the top are closer to each other than two arbitrary ones.
        """
        return self._difference(self.winner, self.second, comparisons=1)

    @cached_property
    def against_baseline(self) -> Difference | None:
        """How much better the winner is than the baseline; None if it is the baseline.

        The winner is the best of several settings, any of which may have been lucky, so the
        interval holds for all of them simultaneously.
        """
        others = len(self.settings) - 1
        return self._difference(self.winner, self.base, comparisons=others)

    def as_json(self) -> dict[str, Any]:
        """Returns what ``canopy confirm --json`` prints."""
        winner, second = self.winner, self.second
        return {
            "study": self.study,
            "confirmed_by": self.confirming,
            "top": self.top,
            "seeds": list(self.seeds),
            "complete": self.is_complete,
            "method": METHOD,
            "settings": [each.as_json() for each in self.settings],
            "winner": winner
            and {"trial": winner.candidate.trial, "params": winner.candidate.params},
            "second": second
            and {"trial": second.candidate.trial, "params": second.candidate.params},
            "against_second": self.against_second and self.against_second.as_json(),
            "against_baseline": self.against_baseline and self.against_baseline.as_json(),
        }

    def _difference(
        self, ours: Confirmed | None, theirs: Confirmed | None, *, comparisons: int
    ) -> Difference | None:
        if ours is None or theirs is None or ours is theirs or theirs.val_ap is None:
            return None
        return paired_difference(
            [run.val_ap for run in ours.runs if run.val_ap is not None],
            [run.val_ap for run in theirs.runs if run.val_ap is not None],
            image_se=self._image_se(ours.runs, theirs.runs),
            comparisons=comparisons,
        )

    def _image_se(self, ours: Sequence[Run], theirs: Sequence[Run]) -> float | None:
        """Returns the standard error of the mean difference over images, if it is known."""
        drawn = self._drawn
        if any(run.trial not in drawn for run in (*ours, *theirs)):
            return None
        means = [np.mean([drawn[run.trial] for run in runs], axis=0) for runs in (ours, theirs)]
        return float(np.std(means[0] - means[1], ddof=1)) if len(means[0]) > 1 else None

    @cached_property
    def _drawn(self) -> dict[int, NDArray[np.float64]]:
        """Trial → its AP on resampled images, for the compared runs."""
        compared = [each for each in (self.winner, self.second, self.base) if each is not None]
        trials = list(
            dict.fromkeys(
                run.trial for each in compared for run in each.runs if run.trial in self.predictions
            )
        )
        if not trials or not self.predictions[trials[0]].validation.ranked.any():
            return {}
        resampled = resample_ap([self.predictions[trial] for trial in trials]).resampled
        return dict(zip(trials, resampled.T, strict=True))


def confirming_study(study: str) -> str:
    """Returns the name of the study that trains a study's finalists again."""
    return f"{study}/confirm"


def read_confirmation(
    database: Database,
    summary: StudyData,
    record: Mapping[str, Any],
    *,
    top: int,
    seeds: int,
) -> Confirmation:
    """Reads the results for the current finalists of a study.

    Args:
        database: an open one.
        summary: of the searched study.
        record: what the searched study started with.
        top: number of finalists.
        seeds: number of additional seeds.
    """
    store = StudyStore(database)
    name = confirming_study(summary.name)
    trials: Sequence[TrialData] = []
    tests: dict[int, dict[str, Any]] = {}
    if name in store.names():
        trials = read_trials(store, name).trials
        tests = ConfirmationStore(database).test_scores(name)
        store.close()
    ended = _ended_runs(trials, tests)
    chosen = additional_seeds(record, seeds)
    requested = [(setting, run) for setting, run in ended if run.seed in chosen]
    found = [
        Confirmed(candidate, _runs_of(candidate.params, requested))
        for candidate in candidates(summary, record, top)
    ]
    found.sort(key=lambda each: -each.val_ap.mean if each.val_ap else np.inf)
    runs = [run.trial for each in found for run in each.runs]
    predictions = trial_predictions(database, name, runs) if runs else {}
    return Confirmation(summary.name, name, top, chosen, tuple(found), predictions, ended)


def last_confirmation(
    database: Database, summary: StudyData, record: Mapping[str, Any]
) -> Confirmation | None:
    """Reads the results of the last request, for the current finalists of a study.

    Args:
        database: an open one.
        summary: of the searched study.
        record: what the searched study started with.

    Returns:
        The confirmation, complete or not; None if none was requested.
    """
    request = ConfirmationStore(database).asked(summary.name)
    if request is None:
        return None
    return read_confirmation(database, summary, record, top=request.top, seeds=request.seeds)


def _ended_runs(
    trials: Sequence[TrialData], tests: Mapping[int, dict[str, Any]]
) -> list[tuple[dict[str, Any], Run]]:
    """Returns the runs that are fully trained or diverged, each after its setting."""
    found = []
    for trial in trials:
        diverged = trial.state == TrialState.PRUNED.name and (trial.reason or "").startswith(
            DIVERGED
        )
        if SEED in trial.params and (trial.is_complete or diverged):
            run = Run(
                seed=int(trial.params[SEED]),
                trial=trial.number,
                val_ap=None if diverged else trial.val_ap,
                reason=trial.reason,
                test=tests.get(trial.number),
                last=trial.metrics[-1] if trial.metrics else {},
                accumulation=trial.accumulation,
            )
            found.append((setting_of(trial.params), run))
    return found


def _runs_of(
    setting: Mapping[str, Any], ended: Sequence[tuple[Mapping[str, Any], Run]]
) -> tuple[Run, ...]:
    """Returns a setting's runs, ordered by seed; of several with one seed, the first."""
    runs: dict[int, Run] = {}
    for other, run in ended:
        if other == setting:
            runs.setdefault(run.seed, run)
    return tuple(runs[seed] for seed in sorted(runs))


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return spread(known) if known and len(known) == len(values) else None
