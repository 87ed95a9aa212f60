"""The files that belong to a study's best trial: its exported YAML, and the model of it."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canopy_search.dashboards.clearml.attachments import Attachment
from canopy_search.dashboards.study.confirmation import last_confirmation
from canopy_search.dashboards.study.finalists import SEED
from canopy_search.dashboards.study.summary import StudySummary
from canopy_search.storage.database import Database
from canopy_search.storage.study.mirrored import STUDY_TASK
from canopy_search.storage.study.studies import StudyStore
from canopy_search.training.errors import CheckpointError

if TYPE_CHECKING:
    from canopy_search.search.study.record import Record
    from canopy_search.training.settings import DataSettings

YAML_NAME = "best.yaml"


def best_files(
    database: Database, home: Path, data: "DataSettings | None"
) -> Callable[[StudySummary], Iterable[Attachment]]:
    """Returns what lists the files of the best trial of a study, or of the one that was confirmed.

    Args:
        database: an opened one.
        home: the state folder, which models lie below.
        data: where the study's data is now; None for where it was when the study began.
    """
    models = _Models(home / "models")
    store = StudyStore(database)

    def files(summary: StudySummary) -> Iterable[Attachment]:
        best, record = summary.best, store.read_record(summary.study)
        if best is None or record is None:
            return
        confirmation = last_confirmation(database, summary, record)

        def read_yaml() -> bytes:
            from canopy_search.search.workflows.best_setting import best_yaml

            return best_yaml(summary, record, data, confirmation).encode()

        winner = confirmation.winner if confirmation else None
        if confirmation is None or winner is None:
            trial, params = best.number, best.params
            # Among how many it is the best is of interest once, when there will be no more.
            version = f"{trial} of {summary.finished}" if summary.is_over else f"{trial}"
        else:
            # A baseline that the search never tried is nobody's trial.
            found = winner.candidate.trial
            trial = STUDY_TASK if found is None else found
            params = {**winner.candidate.params, SEED: winner.runs[0].seed}
            seeds = len(confirmation.seeds)
            version = f"{found} of {confirmation.finalists} with {seeds} seeds"
        for number in sorted({STUDY_TASK, trial}):
            yield Attachment(number, "artifact", YAML_NAME, version, read=read_yaml)
        for model in models.of(params, record):
            yield Attachment(
                trial,
                "model",
                model.name,
                _stamp(model),
                read=model.read_bytes,
                labels=tuple(record["data"]["labels"]),
                comment=f"canopy train of the best setting of study {summary.study}",
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

    def of(self, params: Mapping[str, Any], record: "Record") -> list[Path]:
        """Returns the models that were trained with some settings."""
        files = sorted(self._folder.glob("*.pt")) if self._folder.is_dir() else []
        if not files:
            return []
        from canopy_search.search.config.space import with_params
        from canopy_search.search.study.record import fixed_settings

        fixed = fixed_settings(record)
        wanted = with_params(fixed, params).model_dump(mode="json")
        return [file for file in files if _is_same(self._read(file), wanted, record)]

    def _read(self, file: Path) -> dict[str, Any] | None:
        key = (file, _stamp(file))
        if key not in self._settings:
            from canopy_search.training.network.model_file import load_model

            try:
                self._settings[key] = load_model(file).settings
            except (CheckpointError, OSError, KeyError):
                self._settings[key] = None  # another program's, or damaged
        return self._settings[key]


def _is_same(settings: dict[str, Any] | None, wanted: dict[str, Any], record: "Record") -> bool:
    if settings is None:
        return False
    trained = dict(settings["training"])
    # What it was trained on, and how fast, changes nothing that a model's user would notice.
    for name in ("device", "threads", "precision", "compile", "device_cache"):
        trained[name] = wanted[name]
    columns = ("image_px", "augment")
    data = record["config"]["data"]
    return trained == wanted and all(settings["data"].get(k) == data.get(k) for k in columns)


def _stamp(file: Path) -> str:
    state = file.stat()
    return f"{state.st_size} {state.st_mtime_ns}"
