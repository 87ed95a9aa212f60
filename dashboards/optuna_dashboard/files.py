"""Files of a study that the dashboard offers; each is created when it is opened."""

import csv
import io
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from optuna.artifacts import FileSystemArtifactStore

from canopy_search.dashboards.charts.labels import label_scores
from canopy_search.dashboards.report.page import report_html
from canopy_search.dashboards.study.export import csv_cell
from canopy_search.dashboards.study.model import StudyData, TrialData

_IDS = uuid.UUID("5d0a7e9c-5f43-4a55-93a5-0c8d3f0b9a41")


@dataclass(frozen=True)
class OfferedFile:
    """A file of a study or a trial.

    Attributes:
        id: artifact id in optuna-dashboard.
        name: file name for saving it.
        mimetype: MIME type of its content.
        make: returns the content.
        trial: number of its trial; None for a file of the study.
    """

    id: str
    name: str
    mimetype: str
    make: Callable[[], bytes]
    trial: int | None = None

    @property
    def attribute(self) -> dict[str, str]:
        """The system attribute that registers it with optuna-dashboard."""
        described = {
            "artifact_id": self.id,
            "filename": self.name,
            "mimetype": self.mimetype,
            "encoding": None,
        }
        return {f"artifacts:{self.id}": json.dumps(described)}


def offered_files(
    data: StudyData, study_id: int, best_yaml: Callable[[StudyData], bytes]
) -> list[OfferedFile]:
    """Returns the files of a study and of its trials.

    Args:
        data: the study.
        study_id: the database's id of the study.
        best_yaml: returns the best configuration as YAML; called only for a study of Canopy's
            that has one.
    """

    def offered(
        name: str, mimetype: str, make: Callable[[], bytes], trial: int | None = None
    ) -> OfferedFile:
        file_id = str(uuid.uuid5(_IDS, f"{study_id} {trial} {name}"))
        return OfferedFile(file_id, name, mimetype, make, trial)

    def labels_of(trial: TrialData) -> Callable[[], bytes]:
        return lambda: trial_labels_csv(trial)

    files = []
    if data.trials:
        files.append(offered("report.html", "text/html", lambda: report_html(data).encode()))
    if data.is_ours and data.best is not None:
        files.append(offered("best.yaml", "text/plain", lambda: best_yaml(data)))
        if label_scores(data):
            files.append(offered("labels.csv", "text/csv", lambda: study_labels_csv(data)))
    files += [
        offered("labels.csv", "text/csv", labels_of(trial), trial.number)
        for trial in data.trials
        if trial.stages and trial.stages[-1].metrics.get("val_ap_per_label")
    ]
    return files


def study_labels_csv(data: StudyData) -> bytes:
    """Returns the AP per label of the best trial and of the baseline, as CSV."""
    rows = [(s.label, s.images, s.best, s.baseline) for s in label_scores(data)]
    return _csv(("label", "validation_images", "val_ap", "val_ap_baseline"), rows)


def trial_labels_csv(trial: TrialData) -> bytes:
    """Returns the AP of each label after each epoch of a trial, as CSV."""
    rows = [
        (stage.epoch, label, ap)
        for stage in trial.stages
        for label, ap in (stage.metrics.get("val_ap_per_label") or {}).items()
    ]
    return _csv(("epoch", "label", "val_ap"), rows)


class FileShelf:
    """An Optuna artifact store with the user's uploads and files that are created on request.

    Uploads are stored in a folder and can be removed; offered files cannot.

    Args:
        folder: folder of the uploads; it is created with the first one.
        offered: files that are created on request.
    """

    def __init__(self, folder: Path, offered: Sequence[OfferedFile] = ()) -> None:
        self._folder = folder
        self._uploads = FileSystemArtifactStore(folder)
        self._offered: Mapping[str, OfferedFile] = {file.id: file for file in offered}

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Opens a file.

        Raises:
            ArtifactNotFound: no file has that id.
        """
        offered = self._offered.get(artifact_id)
        return self._uploads.open_reader(artifact_id) if offered is None else _opened(offered)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Stores an upload."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._uploads.write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Removes an upload.

        Raises:
            ArtifactNotFound: no upload has that id.
        """
        self._uploads.remove(artifact_id)


def _opened(file: OfferedFile) -> BinaryIO:
    return io.BytesIO(file.make())


def _csv(names: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(map(csv_cell, row) for row in rows)
    return text.getvalue().encode()
