"""The files attached to a study's best trial: its exported YAML, and its trained model."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canopy_search.dashboards.clearml.attachments import Attachment
from canopy_search.dashboards.study.baseline import SEED
from canopy_search.dashboards.study.confirmation import last_confirmation
from canopy_search.dashboards.study.model import StudyData
from canopy_search.dashboards.study.settings import flat
from canopy_search.storage.database import Database
from canopy_search.storage.study.mirror_rows import STUDY_TASK
from canopy_search.storage.study.studies import StudyStore
from canopy_search.training.errors import CheckpointError

if TYPE_CHECKING:
    from canopy_search.search.study.record import Record
    from canopy_search.training.settings import DataSettings

YAML_NAME = "best.yaml"


def best_files(
    database: Database, home: Path, data: "DataSettings | None"
) -> Callable[[StudyData], Iterable[Attachment]]:
    """Returns a function that lists the files of a study's best trial, or of its confirmed one.

    Args:
        database: an open database.
        home: the state folder, which contains the models.
        data: where the study's data is now; None for where it was when the study started.
    """
    models = _Models(home / "models")
    store = StudyStore(database)

    def files(summary: StudyData) -> Iterable[Attachment]:
        best, record = summary.best, store.read_record(summary.name)
        if best is None or record is None:
            return
        confirmation = last_confirmation(database, summary, record)

        def read_yaml() -> bytes:
            from canopy_search.search.workflows.best_setting import best_yaml

            return best_yaml(summary, record, confirmation, data).encode()

        winner = confirmation.winner if confirmation else None
        if confirmation is None or winner is None:
            trial, params = best.number, best.params
            # The number of trials counts only once the study is over.
            version = f"{trial} of {summary.finished}" if summary.is_over else f"{trial}"
        else:
            # A baseline that the search never tried has no trial.
            number = winner.candidate.trial
            trial = STUDY_TASK if number is None else number
            params = {**winner.candidate.params, SEED: winner.runs[0].seed}
            seeds = len(confirmation.seeds)
            version = f"{number} of {confirmation.finalists} with {seeds} seeds"
        for owner in sorted({STUDY_TASK, trial}):
            yield Attachment(owner, "artifact", YAML_NAME, version, read=read_yaml)
        for model in models.trained_with(params, record):
            yield Attachment(
                trial,
                "model",
                model.name,
                _stamp(model),
                read=model.read_bytes,
                labels=tuple(record["data"]["labels"]),
                comment=f"canopy train of the best setting of study {summary.name}",
            )

    return files


class _Models:
    """The models of a folder and the settings they were trained with; each file is read once.

    Args:
        folder: where `canopy train` stores models.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settings: dict[tuple[Path, str], dict[str, Any] | None] = {}

    def trained_with(self, params: Mapping[str, Any], record: "Record") -> list[Path]:
        """Returns the models that were trained with these parameters."""
        files = sorted(self._folder.glob("*.pt")) if self._folder.is_dir() else []
        if not files:
            return []
        from canopy_search.search.config.space import with_params
        from canopy_search.search.study.record import fixed_settings

        fixed = fixed_settings(record)
        expected = with_params(fixed, params).model_dump(mode="json")
        return [file for file in files if _is_same(self._read(file), expected, record)]

    def _read(self, file: Path) -> dict[str, Any] | None:
        key = (file, _stamp(file))
        if key not in self._settings:
            from canopy_search.training.network.model_file import load_model

            try:
                self._settings[key] = load_model(file).settings
            except CheckpointError:
                self._settings[key] = None  # not a Canopy model, or damaged
        return self._settings[key]


_OF_THE_MACHINE = (
    "device",
    "threads",
    "precision",
    "compile",
    "device_cache",
    "gradient_checkpointing",
    "accumulation",
)


def _is_same(settings: dict[str, Any] | None, expected: dict[str, Any], record: "Record") -> bool:
    from canopy_search.search.study.record import DEFAULTS

    if settings is None:
        return False
    # A file of an earlier release lacks later settings.
    trained = flat(DEFAULTS["training"]) | flat(settings["training"])
    # The hardware of the training run makes no difference to the model's user.
    for name in _OF_THE_MACHINE:
        trained[name] = expected[name]
    columns = ("image_px", "augment", "bands", "range", "background")
    of_model, of_study = (
        DEFAULTS["data"] | data for data in (settings["data"], record["config"]["data"])
    )
    return trained == flat(expected) and all(of_model.get(k) == of_study.get(k) for k in columns)


def _stamp(file: Path) -> str:
    state = file.stat()
    return f"{state.st_size} {state.st_mtime_ns}"
