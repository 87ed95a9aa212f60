"""Canopy's own pages of a study: its live report and its files, made when they are opened."""

from collections.abc import Callable
from datetime import datetime

from canopy_search.dashboards.charts.labels import label_scores
from canopy_search.dashboards.optuna_dashboard.note import offered_files
from canopy_search.dashboards.report.page import report_html
from canopy_search.dashboards.study.export import export_bytes, export_study
from canopy_search.dashboards.study.model import StudyData
from canopy_search.dashboards.study.read_study import read_study
from canopy_search.filestore.csv_text import csv_text
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore

BestYaml = Callable[[StudyData], str]
"""Returns the best configuration of a study of Canopy's as YAML."""


class StudyPages:
    """Makes pages and files of studies.

    Args:
        store: the studies of the database.
        database: an open one.
        best_yaml: returns the best configuration of a study of Canopy's.
    """

    def __init__(self, store: StudyStore, database: Database, best_yaml: BestYaml) -> None:
        self._store, self._database, self._best_yaml = store, database, best_yaml

    def make(self, study: str, name: str | None) -> bytes | None:
        """Returns the report of a study as HTML, or a file of it; None if it has no such file.

        Args:
            study: its name.
            name: of the file; None for the report.

        Raises:
            UnknownStudyError: there is no such study.
        """
        data = read_study(self._store, self._database, study, datetime.now())
        if name is None:
            return report_html(data).encode()
        if not data.is_ours or name not in offered_files(data):
            return None
        make = {"best.yaml": self._yaml, "labels.csv": _labels_csv, "trials.csv": self._trials_csv}
        return make[name](data)

    def _yaml(self, data: StudyData) -> bytes:
        return self._best_yaml(data).encode()

    def _trials_csv(self, data: StudyData) -> bytes:
        return export_bytes(export_study(self._store, data.name), "csv")


def _labels_csv(data: StudyData) -> bytes:
    """Returns the AP per label of the best trial and of the baseline."""
    rows = [(s.label, s.images, s.best, s.baseline) for s in label_scores(data)]
    columns = ("label", "validation_images", "val_ap", "val_ap_baseline")
    return csv_text([columns, *rows]).encode()
