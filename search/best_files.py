"""The files that belong to a study's best trial: its exported YAML, and the model of it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.clearml.attachments import Attachment
from dashboards.summary import StudySummary, TrialSummary
from storage.mirrored import STUDY_TASK
from storage.studies import StudyStore
from training.errors import CheckpointError

if TYPE_CHECKING:
    from search.record import Record
    from training.settings import DataSettings

YAML_NAME = "best.yaml"


def best_files(
    store: StudyStore, home: Path, data: "DataSettings | None"
) -> Callable[[StudySummary], Iterable[Attachment]]:
    """Returns what lists the files of the best trial of a study.

    Args:
        store: of the database.
        home: the state folder, which models lie below.
        data: where the study's data is now; None for where it was when the study began.
    """
    models = _Models(home / "models")

    def files(summary: StudySummary) -> Iterable[Attachment]:
        best, record = summary.best, store.read_record(summary.study)
        if best is None or record is None:
            return

        def read_yaml() -> bytes:
            from search.export import best_yaml  # and with it torch, which takes seconds to import

            return best_yaml(summary, record, data).encode()

        # Among how many it is the best is of interest once, when there will be no more.
        version = f"{best.number} of {summary.finished}" if summary.is_over else f"{best.number}"
        for number in (STUDY_TASK, best.number):
            yield Attachment(
                number,
                "artifact",
                YAML_NAME,
                version,
                read=read_yaml,
            )
        for model in models.of(best, record):
            yield Attachment(
                best.number,
                "model",
                model.name,
                _stamp(model),
                read=model.read_bytes,
                labels=tuple(record["data"]["labels"]),
                comment=f"canopy train of trial {best.number} of study {summary.study}",
            )

    return files


class _Models:
    """The models of a folder, each read once: what they were trained with.

    Args:
        folder: where `canopy train` keeps them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settings: dict[tuple[Path, str], dict[str, Any] | None] = {}

    def of(self, trial: TrialSummary, record: "Record") -> list[Path]:
        """Returns the models that were trained with a trial's settings."""
        files = sorted(self._folder.glob("*.pt")) if self._folder.is_dir() else []
        if not files:
            return []
        from search.space import with_params
        from training.settings import TrainingSettings

        fixed = TrainingSettings.model_validate(record["training"])
        wanted = with_params(fixed, trial.params).model_dump(mode="json")
        return [file for file in files if _is_same(self._read(file), wanted, record)]

    def _read(self, file: Path) -> dict[str, Any] | None:
        key = (file, _stamp(file))
        if key not in self._settings:
            from training.model_file import load_model

            try:
                self._settings[key] = load_model(file).settings
            except (CheckpointError, OSError, KeyError):
                self._settings[key] = None  # another program's, or damaged
        return self._settings[key]


def _is_same(settings: dict[str, Any] | None, wanted: dict[str, Any], record: "Record") -> bool:
    if settings is None:
        return False
    trained = dict(settings["training"])
    # Which device and how many threads it was changes nothing that a model's user would notice.
    for name in ("device", "threads", "precision"):
        trained[name] = wanted[name]
    columns = ("image_px", "augment")
    data = record["config"]["data"]
    return trained == wanted and all(settings["data"].get(k) == data.get(k) for k in columns)


def _stamp(file: Path) -> str:
    state = file.stat()
    return f"{state.st_size} {state.st_mtime_ns}"
