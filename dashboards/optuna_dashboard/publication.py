"""Writes Canopy's note and figures into a study, for optuna-dashboard to show.

They are written when a page is loaded and then asks for the study, and never while it is open: a
search is not slowed down by it, and nobody who edits a note is told that it has changed meanwhile.
optuna-dashboard's own functions write into a study in memory; what they changed is then stored in
one short transaction, so that a note is never half written.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna_dashboard import get_note, save_note, save_plotly_graph_object

from canopy_search.dashboards.charts.standalone import standalone
from canopy_search.dashboards.clearml.status import MirrorSummary, read_mirror
from canopy_search.dashboards.html.page import Page
from canopy_search.dashboards.optuna_dashboard.note import digest, merged, study_note
from canopy_search.dashboards.report.page import report_page
from canopy_search.dashboards.study.model import StudyData
from canopy_search.dashboards.study.read_study import read_study
from canopy_search.storage.database import Database
from canopy_search.storage.schema.upgrade import is_read_only
from canopy_search.storage.study.studies import StudyStore

ADDRESS = "/canopy/studies"
"""Below it, a study's id is the address of its live report."""
OWN = "canopy:dashboard"
"""The study's attribute that says what Canopy wrote last: digest of the text, ids of figures."""

_TALLEST_PX = 700
"""Taller charts are unreadable at the height of a box; only the report has them."""
_GONE = go.Figure(layout={"title": {"text": "Not drawn here any more: see the live report"}})


class Publication:
    """Brings the notes and figures of Canopy's studies up to date.

    Args:
        store: the studies of the database.
        database: an open one.
    """

    def __init__(self, store: StudyStore, database: Database) -> None:
        self._store, self._database = store, database
        self._current: set[int] = set()
        self._notes: dict[int, tuple[Any, str]] = {}  # what each was made from, and Canopy's text
        self._lock = threading.Lock()

    def on_page_loaded(self) -> None:
        """Makes every study be brought up to date when it is asked for the next time."""
        self._current = set()

    def update(self, study_id: int, name: str) -> None:
        """Writes note and figures of a study that Canopy started, once for each loaded page.

        Args:
            study_id: the database's id of the study.
            name: of the study.
        """
        with self._lock:
            current = self._current
            if study_id in current or not self._can_write(name):
                return
            data = read_study(self._store, self._database, name, datetime.now())
            mirror = read_mirror(self._store, data)
            state, figures = _state(data, mirror), None
            known, note = self._notes.get(study_id, (None, ""))
            if state != known:
                page = report_page(data)
                note = study_note(data, page, mirror, f"{ADDRESS}/{study_id}")
                figures = _readable_figures(page)
            with self._store.changing_attributes(study_id) as attributes:
                write(attributes, note, figures)
            self._notes[study_id] = state, note
            current.add(study_id)

    def _can_write(self, name: str) -> bool:
        """Whether Canopy started the study, and the database is no standby."""
        with self._database.engine.connect() as connection:
            if is_read_only(connection):
                return False
        return self._store.is_started(name)


def write(attributes: dict[str, Any], note: str, figures: Mapping[str, go.Figure] | None) -> None:
    """Writes note and figures into the system attributes of a study.

    Args:
        attributes: changed in place. The user's words in the note are kept.
        note: Canopy's current text.
        figures: by an identifier, in place of the earlier ones; None if those are current.
    """
    own = attributes.get(OWN, {"note": None, "figures": []})
    shown = own["figures"]
    with _in_memory(attributes) as study:
        stored = get_note(study)
        body = merged(stored, note, own["note"])
        if body != stored:
            save_note(study, body)
        if figures is not None:
            gone = {key: _GONE for key in shown if key not in figures}
            shown = [*figures, *gone]
            for key, figure in {**figures, **gone}.items():
                save_plotly_graph_object(study, figure, graph_object_id=key)
    attributes[OWN] = {"note": digest(note), "figures": shown}


def _readable_figures(page: Page) -> dict[str, go.Figure]:
    """Returns the figures of a report that can be read in a box, by an identifier."""
    return {
        f"{chart.key}-{index}" if index else chart.key: standalone(chart, figure)
        for section in page.sections
        for chart in section.charts
        if chart.height_px <= _TALLEST_PX
        for index, figure in enumerate(chart.figures)
    }


def _state(data: StudyData, mirror: MirrorSummary | None) -> Any:
    """Returns what note and figures of a study depend on, to be compared with a later state."""
    trials = [(t.number, t.state, t.epochs, t.score) for t in data.trials]
    settings = data.confirmation.settings if data.confirmation is not None else ()
    runs = [(run.trial, run.val_ap, run.test_ap) for each in settings for run in each.runs]
    return data.control, data.target, data.is_searched, trials, runs, mirror


@contextmanager
def _in_memory(attributes: dict[str, Any]) -> Iterator[optuna.Study]:
    """Yields a study in memory with these attributes; what is changed of them is taken over."""
    storage = InMemoryStorage()
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE])
    for key, value in attributes.items():
        storage.set_study_system_attr(study_id, key, value)
    name = storage.get_study_name_from_id(study_id)
    yield optuna.load_study(study_name=name, storage=storage)
    attributes.update(storage.get_study_system_attrs(study_id))
