"""The data of a diary: a study's trials, verdicts, test scores and pages in ClearML."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from canopy_search.dashboards.clearml.links import Pages
from canopy_search.dashboards.diary.outline import Outline, Tried, outline_of
from canopy_search.dashboards.stats.difference import Difference, NoVerdict
from canopy_search.dashboards.stats.verdict import verdicts
from canopy_search.dashboards.study.baseline import SEED, setting_of
from canopy_search.dashboards.study.confirmation import (
    Confirmation,
    confirming_study,
    last_confirmation,
)
from canopy_search.dashboards.study.model import StudyData
from canopy_search.dashboards.study.read_study import read_study
from canopy_search.dashboards.study.reader import read_trials
from canopy_search.storage.database import Database
from canopy_search.storage.study.confirmations import ConfirmationStore
from canopy_search.storage.study.predictions import trial_predictions
from canopy_search.storage.study.studies import StudyStore


@dataclass(frozen=True)
class ScoredRun:
    """A run of a setting with an additional seed, scored on test.

    Attributes:
        seed: seed of the run.
        val: metrics of its last epoch.
        test: its scores on test.
    """

    seed: int
    val: Mapping[str, Any]
    test: Mapping[str, Any]


@dataclass(frozen=True)
class DiaryData:
    """Everything that a diary is written from.

    Attributes:
        study: the study.
        outline: which settings have a section.
        verdicts: trial number → verdict against the baseline, if both have as many epochs.
        images: number of validation images behind the verdicts; 0 if there are no verdicts.
        lead: verdict on the runner-up, compared with the best setting.
        confirmation: results of the finalists with additional seeds, if they were confirmed.
        tested: settings without their seed, with their tested runs.
        pages: the trials' pages in ClearML.
    """

    study: StudyData
    outline: Outline
    verdicts: Mapping[int, Difference | NoVerdict] = field(default_factory=dict)
    images: int = 0
    lead: Difference | NoVerdict | None = None
    confirmation: Confirmation | None = None
    tested: Sequence[tuple[Mapping[str, Any], tuple[ScoredRun, ...]]] = ()
    pages: Pages = field(default_factory=Pages)

    @property
    def base(self) -> Tried | None:
        """The baseline, if it was tried."""
        return self.outline.base

    def tests_of(self, params: Mapping[str, Any]) -> tuple[ScoredRun, ...]:
        """Returns the tested runs of a setting, ordered by seed."""
        requested = setting_of(params)
        return next((runs for setting, runs in self.tested if setting == requested), ())

    @cached_property
    def base_tests(self) -> tuple[ScoredRun, ...]:
        """The tested runs of the baseline."""
        if self.confirmation is not None:
            return self.tests_of(self.confirmation.base.candidate.params)
        return () if self.base is None else self.tests_of(self.base.params)


def read_diary_data(
    store: StudyStore, database: Database, name: str, places: Collection[str] = ()
) -> DiaryData:
    """Reads the data of a study's diary.

    A verdict takes .4 s for each section on Planet's 6,072 validation images.

    Args:
        store: the studies of the database.
        database: an open database.
        name: name of the study.
        places: places where the user wrote something.

    Raises:
        UnknownStudyError: there is no such study.
    """
    study = read_study(store, database, name, datetime.now())
    confirmation, tested = None, []
    if study.record is not None:
        confirmation = last_confirmation(database, study, study.record)
        tested = _tested(store, database, name)
    outline = outline_of(study, places=places, confirmed=[setting for setting, _ in tested])
    found, images = _verdicts(study, outline, database)
    return DiaryData(
        study=study,
        outline=outline,
        verdicts=found,
        images=images,
        lead=_lead(study),
        confirmation=confirmation,
        tested=tested,
        pages=_pages(store, name),
    )


def shown_of_group(study: StudyData, settings: Sequence[Tried]) -> Tried | None:
    """Returns the best fully trained setting of a group, if there is one."""
    complete = [t for t in settings if t.shown.is_complete and t.shown.score is not None]
    return max(complete, key=lambda t: (study.worth(t.shown.score), -t.first.number), default=None)


def _verdicts(
    study: StudyData, outline: Outline, database: Database
) -> tuple[dict[int, Difference | NoVerdict], int]:
    """Compares the fully trained trials with the baseline, if it has as many epochs."""
    if not study.is_ours or outline.base is None or not outline.base.shown.is_complete:
        return {}, 0
    base = outline.base.shown
    best = [shown_of_group(study, group.settings) for group in outline.groups]
    settings = [*outline.own, *(each for each in best if each is not None)]
    numbers = [
        each.shown.number
        for each in settings
        if each.shown.is_complete and each.shown.epochs == base.epochs and each.shown is not base
    ]
    predictions = trial_predictions(database, study.name, [base.number, *numbers])
    found = verdicts(predictions, base.number, numbers, looked_at=study.looked_at)
    images = [len(each.validation.targets) for each in predictions.values()]
    return found, max(images, default=0)


def _lead(study: StudyData) -> Difference | NoVerdict | None:
    """Returns the verdict on the runner-up, compared with the best."""
    best, second = study.best, study.runner_up
    if not study.is_ours or best is None or second is None:
        return None
    seen = study.looked_at
    return verdicts(study.predictions, best.number, [second.number], looked_at=seen)[second.number]


def _tested(
    store: StudyStore, database: Database, name: str
) -> list[tuple[dict[str, Any], tuple[ScoredRun, ...]]]:
    """Reads all tested runs, including those of former finalists."""
    confirming = confirming_study(name)
    if confirming not in store.names():
        return []
    scores = ConfirmationStore(database).test_scores(confirming)
    found: list[tuple[dict[str, Any], list[ScoredRun]]] = []
    for trial in read_trials(store, confirming).trials:
        test = scores.get(trial.number)
        if test is None or test.get("test_ap") is None or not trial.metrics:
            continue
        run = ScoredRun(int(trial.params[SEED]), trial.metrics[-1], test)
        setting = setting_of(trial.params)
        runs = next((runs for known, runs in found if known == setting), None)
        if runs is None:
            found.append((setting, [run]))
        elif all(run.seed != other.seed for other in runs):
            runs.append(run)
    return [(setting, tuple(sorted(runs, key=lambda r: r.seed))) for setting, runs in found]


def _pages(store: StudyStore, name: str) -> Pages:
    """Returns the pages of the latest mirror whose pages are known."""
    mirrors = [Pages.of(state, rows) for state, rows in store.mirrors(name)]
    return next((pages for pages in mirrors if pages.state.web and pages.task_ids), Pages())
