"""A study as a file for other programs: CSV, Parquet or JSON."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow
import pyarrow.parquet
from optuna.trial import FrozenTrial

from canopy_search.dashboards.errors import ExportFormatError
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.dashboards.study.reader import StudyReader
from canopy_search.dashboards.study.settings import flat
from canopy_search.filestore.csv_text import csv_text
from canopy_search.storage.study.epochs import EpochRecord
from canopy_search.storage.study.studies import StudyStore

Format = Literal["csv", "parquet", "json"]

# Columns of every table, with their types; a study without trials has them too.
_TIME = pyarrow.timestamp("us", "UTC")
_TRIAL_COLUMNS = {
    "study": pyarrow.string(),
    "number": pyarrow.int64(),
    "state": pyarrow.string(),
    "value": pyarrow.float64(),
    "began": _TIME,
    "ended": _TIME,
    "reason": pyarrow.string(),
    "promoted_from": pyarrow.int64(),
}
_EPOCH_COLUMNS = {
    "epoch": pyarrow.int64(),
    "intermediate_value": pyarrow.float64(),
    "recorded": _TIME,
    "replayed": pyarrow.bool_(),
    "times_trained": pyarrow.int64(),
    "stage": pyarrow.string(),
}


@dataclass(frozen=True)
class ExportedTrial:
    """One trial.

    Attributes:
        values: the columns that every study has, by name.
        params: dotted name of a parameter → value.
        epochs: values by name for each epoch, including its metrics; the reports to plain Optuna
            if Canopy trained none of its epochs.
    """

    values: dict[str, Any]
    params: dict[str, Any]
    epochs: list[dict[str, Any]]


@dataclass(frozen=True)
class ExportedStudy:
    """A study's trials with all their data.

    Attributes:
        study: its name.
        trials: in the order of their numbers.
    """

    study: str
    trials: list[ExportedTrial]


def export_study(store: StudyStore, name: str) -> ExportedStudy:
    """Reads a study.

    Raises:
        UnknownStudyError: no study has that name.
    """
    reader = StudyReader(store, name)
    data = reader.read()
    epochs = store.epochs(name)
    trials = [
        _exported(data, summary, trial, epochs.get(trial.number, []))
        for summary, trial in zip(data.trials, reader.trials, strict=True)
    ]
    return ExportedStudy(name, trials)


def export_format(path: Path, wanted: str | None) -> Format:
    """Returns the requested format, else that of the file's suffix.

    Raises:
        ExportFormatError: neither names a known format.
    """
    formats: tuple[Format, ...] = get_args(Format)
    suffix = path.suffix.removeprefix(".")
    for known in formats:
        if (wanted or suffix).lower() == known:
            return known
    expected = "csv, parquet or json"
    if wanted:
        raise ExportFormatError(f"--format {wanted}: expected {expected}")
    raise ExportFormatError(
        f"--output {path}: expected a file name ending in .{expected}; rename it or pass --format"
    )


def export_bytes(exported: ExportedStudy, file_format: Format) -> bytes:
    """Returns the content of the file.

    CSV and Parquet are tables with one row per epoch, which repeats the trial's values, and one
    row for a trial without epochs. Their columns are those of every study, ``values_0``,
    ``values_1``, … of a study with several objectives, ``params_NAME`` for each parameter, and each
    metric; the AP of a label is ``val_ap_per_label.LABEL``. JSON is one object with a list of
    trials, each with a list of epochs.

    Args:
        exported: the study.
        file_format: of the file.
    """
    if file_format == "json":
        return _json(exported)
    table = _columns(exported)
    if file_format == "csv":
        return csv_text([table, *zip(*table.values(), strict=True)]).encode()
    return _parquet(table)


def _exported(
    data: StudyData, summary: TrialData, trial: FrozenTrial, recorded: Sequence[EpochRecord]
) -> ExportedTrial:
    told = trial.values or [None] * data.objectives
    values = {
        "study": data.name,
        "number": summary.number,
        "state": summary.state,
        "value": told[0],
        "began": _utc(trial.datetime_start),
        "ended": _utc(trial.datetime_complete),
        "reason": summary.reason,
        "promoted_from": summary.promoted_from,
    }
    if data.objectives > 1:
        values |= {f"values_{number}": value for number, value in enumerate(told)}
    epochs: list[dict[str, Any]]
    if not recorded:
        reports = sorted(trial.intermediate_values.items())
        epochs = [{"epoch": step, "intermediate_value": value} for step, value in reports]
        return ExportedTrial(values, summary.params, epochs)
    # The epoch that a running trial has just stored may not be reported yet.
    epochs = [
        {
            "epoch": each.epoch,
            "intermediate_value": trial.intermediate_values[each.epoch],
            "recorded": _utc(each.recorded),
            "replayed": each.replayed,
            "times_trained": each.times_trained,
            "stage": each.stage,
            **each.metrics,
        }
        for each in recorded
        if each.epoch in trial.intermediate_values
    ]
    return ExportedTrial(values, summary.params, epochs)


def _columns(exported: ExportedStudy) -> dict[str, list[Any]]:
    """Returns the long table as a list of cells per column."""
    rows: list[dict[str, Any]] = []
    params: dict[str, None] = {}
    metrics: dict[str, None] = {}
    for trial in exported.trials:
        named = {f"params_{name}": value for name, value in trial.params.items()}
        params |= dict.fromkeys(named)
        for epoch in trial.epochs or [{}]:
            measured = flat(epoch)
            metrics |= dict.fromkeys(name for name in measured if name not in _EPOCH_COLUMNS)
            rows.append({**measured, **named, **trial.values})
    of_trials = dict.fromkeys(name for trial in exported.trials for name in trial.values)
    names = [*(_TRIAL_COLUMNS | of_trials), *params, *_EPOCH_COLUMNS, *metrics]
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet(table: Mapping[str, Sequence[Any]]) -> bytes:
    types = _TRIAL_COLUMNS | _EPOCH_COLUMNS
    arrays = {name: _array(cells, types.get(name)) for name, cells in table.items()}
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(arrays), content, compression="zstd")
    return content.getvalue()


def _array(cells: Sequence[Any], type_: pyarrow.DataType | None) -> pyarrow.Array:
    """Returns a column; choices of mixed types become strings."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if type_ is None and len(kinds) > 1 and kinds != {int, float}:
        return pyarrow.array([None if cell is None else str(cell) for cell in cells])
    return pyarrow.array(cells, type_)


def _json(exported: ExportedStudy) -> bytes:
    trials = [
        {
            **{name: value for name, value in trial.values.items() if name != "study"},
            "params": trial.params,
            "epochs": trial.epochs,
        }
        for trial in exported.trials
    ]
    document = _json_value({"study": exported.study, "trials": trials})
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _json_value(value: Any) -> Any:
    """Returns a JSON value: times as ISO strings, non-finite numbers as null."""
    if isinstance(value, Mapping):
        return {str(key): _json_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _utc(instant: datetime | None) -> datetime | None:
    """Returns a time in UTC; Optuna's times are local and have no zone."""
    return instant and instant.astimezone(UTC)
