"""Views of studies for the dashboard, read only when a page requests them."""

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna_dashboard

from canopy_search.dashboards.answer.confirmation_text import confirmation_lines
from canopy_search.dashboards.answer.headline import Answer, answer_of
from canopy_search.dashboards.clearml.status import MirrorSummary, read_mirror
from canopy_search.dashboards.optuna_dashboard.dressed_storage import DressedStorage, dressed
from canopy_search.dashboards.optuna_dashboard.figures import shown_figures
from canopy_search.dashboards.optuna_dashboard.files import FileShelf, OfferedFile, offered_files
from canopy_search.dashboards.optuna_dashboard.notes import (
    ShownTexts,
    study_note,
    trial_note,
    with_words,
)
from canopy_search.dashboards.study.confirmation import last_confirmation
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.dashboards.study.read_study import read_study
from canopy_search.dashboards.study.reader import StudyReader
from canopy_search.storage.database import Database
from canopy_search.storage.errors import UnknownStudyError
from canopy_search.storage.study.confirmations import ConfirmationStore
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import RUNG_ATTR

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

BestYaml = Callable[[StudyData, Mapping[str, Any]], bytes]
"""Returns the best configuration of a study with a record of its settings, as YAML."""

# A study is read or drawn again after a second at the earliest; for a large one after a multiple
# of the time that took, so that an open page does not take CPU time from the search.
_FRESH_S = 1.0
_REREAD_FACTOR = 4


@dataclass(frozen=True)
class StudyView:
    """A study at one moment, as the dashboard shows it.

    Attributes:
        study_id: the database's id of the study.
        data: the study.
        storage: the storage that optuna-dashboard reads.
        shelf: the files that can be opened.
        note: note of the study.
        figures: each as an identifier and JSON.
        mirror: the study's mirror in ClearML, if it has one.
        tests: trial number → AP on test, for trials that were scored there.
        shown: Canopy's texts that were shown recently.
    """

    study_id: int
    data: StudyData
    storage: DressedStorage
    shelf: FileShelf
    note: str
    figures: list[dict[str, str]]
    mirror: MirrorSummary | None
    tests: Mapping[int, float]
    shown: ShownTexts

    @cached_property
    def app(self) -> "WSGIApplication":
        """optuna-dashboard on this view only, so that its caches are never stale."""
        app: WSGIApplication = optuna_dashboard.wsgi(self.storage, self.shelf)
        return app

    def complete(self, answer: dict[str, Any]) -> None:
        """Adds notes and figures to optuna-dashboard's answer about the study.

        They are not added to the storage, because optuna-dashboard scans all attributes for every
        trial: 2.4 s for 1,000 notes.
        """
        answer["note"] = self.noted(None, answer["note"])
        answer["plotly_graph_objects"] = [*self.figures, *answer["plotly_graph_objects"]]
        for trial in (*answer["trials"], *answer["best_trials"]):
            trial["note"] = self.noted(trial["trial_id"], trial["note"])

    def noted(self, trial_id: int | None, note: dict[str, Any]) -> dict[str, Any]:
        """Returns a note as it is shown.

        Args:
            trial_id: the database's id of a trial; None for the study's note.
            note: the stored note, which has only the user's words.
        """
        ours = self.note if trial_id is None else self._trial_note(trial_id)
        self.shown.remember((self.study_id, trial_id), ours)
        return {**note, "body": with_words(ours, note["body"])}

    def _trial_note(self, trial_id: int) -> str:
        number = self.storage.get_trial(trial_id).number
        trial = self.data.trials[number]
        url = self.mirror.trials.get(number) if self.mirror else None
        return trial_note(self.data, trial, url, self.tests.get(number))


class StudyViews:
    """Views of the studies of a database.

    Args:
        store: the studies of the database.
        database: an open database.
        uploads: folder of the user's uploads.
        best_yaml: returns the best configuration of a study of Canopy's.
    """

    def __init__(
        self, store: StudyStore, database: Database, uploads: Path, best_yaml: BestYaml
    ) -> None:
        self.store, self.database = store, database
        self.uploads, self.best_yaml = uploads, best_yaml
        self.shown = ShownTexts()
        self._watches: dict[int, _StudyWatch] = {}
        self._lock = threading.Lock()

    def view(self, study_id: int) -> StudyView | None:
        """Returns a study as it is, or was a moment ago; None if it does not exist."""
        with self._lock:
            watch = self._watches.setdefault(study_id, _StudyWatch(self, study_id))
        return watch.view()

    def expire(self) -> None:
        """Makes every study be read again, after a write."""
        with self._lock:
            watches = list(self._watches.values())
        for watch in watches:
            watch.expire()


class _StudyWatch:
    """Reads one study, and caches the expensive parts."""

    def __init__(self, views: StudyViews, study_id: int) -> None:
        self._views, self._study_id = views, study_id
        self._lock = threading.Lock()
        self._reader: StudyReader | None = None
        self._view: StudyView | None = None
        self._read_at = self._draw_at = 0.0
        self._answer: tuple[Hashable, Answer] | None = None
        self._confirmed: tuple[Hashable, list[str]] | None = None
        self._figures: tuple[Hashable, list[dict[str, str]]] | None = None

    def view(self) -> StudyView | None:
        with self._lock:
            started = time.monotonic()
            if started >= self._read_at:
                try:
                    self._view = self._read()
                except UnknownStudyError:
                    self._view = None
                took = time.monotonic() - started
                self._read_at = time.monotonic() + max(_FRESH_S, _REREAD_FACTOR * took)
            return self._view

    def expire(self) -> None:
        self._read_at = 0.0

    def _read(self) -> StudyView | None:
        views, study_id = self._views, self._study_id
        store, database = views.store, views.database
        studies = {study._study_id: study for study in store.optuna_storage.get_all_studies()}
        study = studies.get(study_id)
        if study is None:
            return None
        name = study.study_name
        # The reader cannot detect changes that plain Optuna writes.
        reader = self._reader or StudyReader(store, name)
        data = read_study(store, database, name, datetime.now(), reader)
        self._reader = reader if data.is_ours else None
        if data.is_ours:
            trials = reader.trials
        else:
            trials = store.optuna_storage.get_all_trials(study_id, deepcopy=False)
            trials = trials[: len(data.trials)]  # a new one may have been added meanwhile
        mirror = read_mirror(store, data)
        scores = ConfirmationStore(database).test_scores(name)
        tests = {number: score["test_ap"] for number, score in scores.items()}
        files = offered_files(data, study_id, self._yaml)
        attributes = _attributes_by_trial(files)
        offered = {file.name: file for file in files if file.trial is None}
        return StudyView(
            study_id=study_id,
            data=data,
            storage=DressedStorage(
                study,
                study_id,
                {**study.system_attrs, **attributes.get(None, {})},
                [
                    dressed(
                        trial,
                        data.trials[trial.number].params,
                        trial_attributes(data, data.trials[trial.number], tests),
                        attributes.get(trial.number, {}),
                        without=RUNG_ATTR if data.is_ours else None,
                    )
                    for trial in trials
                ],
            ),
            shelf=FileShelf(views.uploads, files),
            note=study_note(
                data,
                self._answer_of(data),
                mirror,
                self._confirmed_of(data),
                {name: f"/artifacts/{study_id}/{file.id}" for name, file in offered.items()},
            ),
            figures=self._figures_of(data),
            mirror=mirror,
            tests=tests,
            shown=views.shown,
        )

    def _yaml(self, data: StudyData) -> bytes:
        return self._views.best_yaml(data, data.record or {})

    def _answer_of(self, data: StudyData) -> Answer:
        """Returns how certain the ranking is; cached, because its bootstrap is slow."""
        ranked = (data.best, data.runner_up, data.baseline)
        key = (data.looked_at, *((t.number, t.epochs) for t in ranked if t is not None))
        if self._answer is None or self._answer[0] != key:
            self._answer = (key, answer_of(data))
        return self._answer[1]

    def _confirmed_of(self, data: StudyData) -> list[str]:
        """Returns sentences about the finalists with additional seeds, cached likewise."""
        if data.record is None:
            return []
        found = last_confirmation(self._views.database, data, data.record)
        if found is None:
            return []
        key = tuple(
            (setting.candidate.trial, *((r.seed, r.trial, r.test_ap) for r in setting.runs))
            for setting in found.settings
        )
        if self._confirmed is None or self._confirmed[0] != key:
            self._confirmed = (key, confirmation_lines(found))
        return self._confirmed[1]

    def _figures_of(self, data: StudyData) -> list[dict[str, str]]:
        key = hash(tuple((t.number, t.state, t.epochs, t.score) for t in data.trials))
        started = time.monotonic()
        is_drawn = self._figures is not None and self._figures[0] == key
        if self._figures is None or (not is_drawn and started >= self._draw_at):
            self._figures = (key, shown_figures(data))
            took = time.monotonic() - started
            self._draw_at = time.monotonic() + _REREAD_FACTOR * took
        return self._figures[1]


def trial_attributes(
    data: StudyData, trial: TrialData, tests: Mapping[int, float]
) -> dict[str, Any]:
    """Returns attributes to sort and filter Canopy's trials by; none for plain Optuna's.

    The names are those of ``canopy trials --json``.
    """
    if not data.is_ours:
        return {}
    summary = trial
    found = {
        "state": summary.state.lower(),
        "val_ap": _rounded(trial.score),
        "test_ap": _rounded(tests.get(trial.number)),
        "epochs_reported": len(summary.metrics),
        "epochs_trained": summary.epochs_trained,
        "epochs_replayed": summary.epochs_replayed,
        "seconds": round(summary.seconds, 1),
        "trained_s": round(summary.trained_s, 1),
    }
    return {name: value for name, value in found.items() if value is not None}


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 4)


def _attributes_by_trial(files: list[OfferedFile]) -> dict[int | None, dict[str, str]]:
    """Returns the system attributes that register files, by trial number."""
    found: dict[int | None, dict[str, str]] = {}
    for file in files:
        found.setdefault(file.trial, {}).update(file.attribute)
    return found
