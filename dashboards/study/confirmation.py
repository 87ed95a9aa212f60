"""What further seeds say of a study's finalists: means, spreads, the winner, and its lead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import TrialState

from canopy_search.dashboards.stats.bootstrap import resample_ap
from canopy_search.dashboards.stats.seeds import Difference, Spread, paired_difference, spread
from canopy_search.dashboards.study.finalists import (
    SEED,
    Candidate,
    candidates,
    further_seeds,
    setting_of,
)
from canopy_search.dashboards.study.summary import StudySummary, TrialSummary, summarize_study
from canopy_search.storage.database import Database
from canopy_search.storage.study.confirmations import ConfirmationStore
from canopy_search.storage.study.predictions import Predictions, trial_predictions
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import DIVERGED

METHOD = (
    "mean ± standard deviation over the seeds, and the 95 % t interval of the mean; differences "
    "are paired by seed, with Student's t, and with the bootstrap of the validation images in "
    "addition where their predictions are known"
)


@dataclass(frozen=True)
class Run:
    """A setting that was trained with one seed to its end, or until it diverged.

    Attributes:
        seed: of the run.
        trial: its number in the study that confirms.
        val_ap: validation AP after its last epoch; None if it diverged.
        reason: why there is none.
        test: scores on test; None where no images were held out.
        last: metrics of its last epoch.
    """

    seed: int
    trial: int
    val_ap: float | None
    reason: str | None
    test: dict[str, Any] | None
    last: dict[str, Any]

    @property
    def test_ap(self) -> float | None:
        """AP on test, if it was scored there."""
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
    """A setting with what its runs gave.

    Attributes:
        candidate: the setting.
        runs: in the order of the seeds; those that are missing are still to be trained.
    """

    candidate: Candidate
    runs: tuple[Run, ...]

    @cached_property
    def val_ap(self) -> Spread | None:
        """Validation AP over the seeds; None where a run diverged or none is known."""
        return _spread([run.val_ap for run in self.runs])

    @cached_property
    def test_ap(self) -> Spread | None:
        """AP on test over the seeds; None where one is not known."""
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
    """The finalists and the baseline of a study, with further seeds.

    Attributes:
        study: that was searched.
        confirming: the study whose trials the runs are.
        top: finalists that were asked for.
        seeds: of the runs.
        settings: the best mean first; what has none comes last.
        predictions: trial of `confirming` → what it says of the validation images, if that is kept.
    """

    study: str
    confirming: str
    top: int
    seeds: tuple[int, ...]
    settings: tuple[Confirmed, ...]
    predictions: Mapping[int, Predictions]

    @property
    def missing(self) -> list[dict[str, Any]]:
        """What is still to be trained: settings with their seed."""
        return [
            {**each.candidate.params, SEED: seed}
            for each in self.settings
            for seed in self.seeds
            if all(run.seed != seed for run in each.runs)
        ]

    @property
    def wanted(self) -> list[dict[str, Any]]:
        """All that is asked for: settings with their seed.

        One setting after the other: those of one seed share their first epochs, and who begins
        them side by side waits for them.
        """
        return [
            {**each.candidate.params, SEED: seed} for each in self.settings for seed in self.seeds
        ]

    @property
    def is_complete(self) -> bool:
        """Whether every run is known."""
        return not self.missing

    @property
    def finalists(self) -> int:
        """How many finalists there are; fewer than asked for where there were no more."""
        return sum(each.candidate.is_finalist for each in self.settings)

    @property
    def winner(self) -> Confirmed | None:
        """The setting with the best mean, which may be the baseline; None until all is known."""
        if not self.is_complete or self.settings[0].val_ap is None:
            return None
        return self.settings[0]

    @property
    def second(self) -> Confirmed | None:
        """The setting with the next best mean, if there is one."""
        others = [each for each in self.settings[1:] if each.val_ap is not None]
        return others[0] if self.winner and others else None

    @property
    def base(self) -> Confirmed:
        """The baseline."""
        return next(each for each in self.settings if each.candidate.is_baseline)

    @cached_property
    def against_second(self) -> Difference | None:
        """How much better the winner is than the second, if both are known.

        No correction for their having been chosen: that two of several equal settings come to
        lie next to each other at the top makes their difference smaller than any two's.
        """
        return self._difference(self.winner, self.second, comparisons=1)

    @cached_property
    def against_baseline(self) -> Difference | None:
        """How much better the winner is than the baseline, if it is not that itself.

        It is the best of so many, any of which could have been lucky; so the interval is one that
        holds for all of them together.
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
        """Returns by how much the mean difference would vary on other images, if that is known."""
        drawn = self._drawn
        if any(run.trial not in drawn for run in (*ours, *theirs)):
            return None
        means = [np.mean([drawn[run.trial] for run in runs], axis=0) for runs in (ours, theirs)]
        return float(np.std(means[0] - means[1], ddof=1)) if len(means[0]) > 1 else None

    @cached_property
    def _drawn(self) -> dict[int, NDArray[np.float64]]:
        """Trial → its AP on resampled images, for the runs that are compared."""
        compared = [each for each in (self.winner, self.second, self.base) if each is not None]
        trials = list(
            dict.fromkeys(
                run.trial for each in compared for run in each.runs if run.trial in self.predictions
            )
        )
        if not trials:
            return {}
        resampled = resample_ap([self.predictions[trial] for trial in trials]).resampled
        return dict(zip(trials, resampled.T, strict=True))


def confirming_study(study: str) -> str:
    """Returns the name of the study that trains a study's finalists again."""
    return f"{study}/confirm"


def read_confirmation(
    database: Database,
    summary: StudySummary,
    record: Mapping[str, Any],
    *,
    top: int,
    seeds: int,
) -> Confirmation:
    """Reads what is known of the finalists that a study has now.

    Args:
        database: an opened one.
        summary: of the study that was searched.
        record: what it was begun with.
        top: how many finalists.
        seeds: how many further seeds.
    """
    store = StudyStore(database)
    name = confirming_study(summary.study)
    trials: list[TrialSummary] = []
    tests: dict[int, dict[str, Any]] = {}
    if name in store.names():
        trials = summarize_study(store, name).trials
        tests = ConfirmationStore(database).test_scores(name)
        store.close()
    chosen = further_seeds(record, seeds)
    found = [
        Confirmed(each, _runs_of(each, trials, tests, chosen))
        for each in candidates(summary, record, top)
    ]
    found.sort(key=lambda each: -each.val_ap.mean if each.val_ap else np.inf)
    runs = [run.trial for each in found for run in each.runs]
    predictions = trial_predictions(database, name, runs) if runs else {}
    return Confirmation(summary.study, name, top, chosen, tuple(found), predictions)


def last_confirmation(
    database: Database, summary: StudySummary, record: Mapping[str, Any]
) -> Confirmation | None:
    """Reads what is known of what was asked for last, for the finalists that a study has now.

    Args:
        database: an opened one.
        summary: of the study that was searched.
        record: what it was begun with.

    Returns:
        The confirmation, complete or not; None if none was asked for.
    """
    asked = ConfirmationStore(database).asked(summary.study)
    if asked is None:
        return None
    return read_confirmation(database, summary, record, top=asked.top, seeds=asked.seeds)


def _runs_of(
    candidate: Candidate,
    trials: Sequence[TrialSummary],
    tests: Mapping[int, dict[str, Any]],
    seeds: Sequence[int],
) -> tuple[Run, ...]:
    runs: dict[int, Run] = {}
    for trial in trials:
        seed = int(trial.params.get(SEED, -1))
        if seed not in seeds or setting_of(trial.params) != candidate.params:
            continue
        diverged = trial.state == TrialState.PRUNED.name and (trial.reason or "").startswith(
            DIVERGED
        )
        if trial.state == TrialState.COMPLETE.name or diverged:
            run = Run(
                seed=seed,
                trial=trial.number,
                val_ap=None if diverged else trial.val_ap,
                reason=trial.reason,
                test=tests.get(trial.number),
                last=trial.metrics[-1] if trial.metrics else {},
            )
            runs.setdefault(seed, run)
    return tuple(runs[seed] for seed in seeds if seed in runs)


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return spread(known) if known and len(known) == len(values) else None
