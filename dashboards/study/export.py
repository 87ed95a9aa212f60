"""A study as a file for other programs: CSV, Parquet or JSON."""

import csv
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
from canopy_search.dashboards.study.summary import StudyReader, TrialSummary
from canopy_search.storage.study.epochs import EpochRecord
from canopy_search.storage.study.studies import StudyStore

Format = Literal["csv", "parquet", "json"]

# Columns of every table, with their types: a study without a trial has them too.
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
# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class ExportedTrial:
    """One trial.

    Attributes:
        values: by the names of the columns that every study has.
        params: dotted name of a setting → value.
        epochs: values by name for each epoch, its metrics among them; what plain Optuna was told,
            where none of its epochs is ours.
    """

    values: dict[str, Any]
    params: dict[str, Any]
    epochs: list[dict[str, Any]]


@dataclass(frozen=True)
class ExportedStudy:
    """All that is known of a study's trials.

    Attributes:
        study: its name.
        trials: in the order of their numbers.
    """

    study: str
    trials: list[ExportedTrial]


def export_study(store: StudyStore, name: str) -> ExportedStudy:
    """Reads a study.

    Raises:
        UnknownStudyError: there is none of that name.
    """
    reader = StudyReader(store, name)
    summaries = reader.read().trials
    epochs = store.epochs(name)
    trials = [
        _exported(name, summary, trial, epochs.get(trial.number, []))
        for summary, trial in zip(summaries, reader.trials, strict=True)
    ]
    return ExportedStudy(name, trials)


def export_format(path: Path, wanted: str | None) -> Format:
    """Returns the format that is wanted, else that of the file's ending.

    Raises:
        ExportFormatError: neither says it.
    """
    formats: tuple[Format, ...] = get_args(Format)
    ending = path.suffix.removeprefix(".")
    for known in formats:
        if (wanted or ending).lower() == known:
            return known
    there = "csv, parquet or json"
    if wanted:
        raise ExportFormatError(f"--format {wanted}: expected {there}")
    raise ExportFormatError(f"--output {path}: it does not end in .{there}; say --format too")


def export_bytes(exported: ExportedStudy, file_format: Format) -> bytes:
    """Returns the content of the file.

    CSV and Parquet are tables with a row for each epoch, the trial's own values repeated, and one
    row for a trial without any. Their columns are those of every study, ``params_NAME`` for each
    parameter, and each metric; the AP of labels is ``val_ap_per_label.LABEL``. JSON is one object
    with a list of trials, which have a list of epochs.

    Args:
        exported: the study.
        file_format: of the file.
    """
    if file_format == "json":
        return _json(exported)
    table = _columns(exported)
    return _csv(table) if file_format == "csv" else _parquet(table)


def _exported(
    study: str, summary: TrialSummary, trial: FrozenTrial, recorded: Sequence[EpochRecord]
) -> ExportedTrial:
    values = {
        "study": study,
        "number": summary.number,
        "state": summary.state,
        "value": trial.values[0] if trial.values else None,
        "began": _utc(trial.datetime_start),
        "ended": _utc(trial.datetime_complete),
        "reason": summary.reason,
        "promoted_from": summary.promoted_from,
    }
    epochs: list[dict[str, Any]]
    if not recorded:
        told = sorted(trial.intermediate_values.items())
        epochs = [{"epoch": step, "intermediate_value": value} for step, value in told]
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
    """Returns the long table, a list of cells for each column."""
    rows: list[dict[str, Any]] = []
    params: dict[str, None] = {}
    metrics: dict[str, None] = {}
    for trial in exported.trials:
        named = {f"params_{name}": value for name, value in trial.params.items()}
        params |= dict.fromkeys(named)
        for epoch in trial.epochs or [{}]:
            measured = _flat(epoch)
            metrics |= dict.fromkeys(name for name in measured if name not in _EPOCH_COLUMNS)
            rows.append({**measured, **named, **trial.values})
    names = [*_TRIAL_COLUMNS, *params, *_EPOCH_COLUMNS, *metrics]
    return {name: [row.get(name) for row in rows] for name in names}


def _flat(epoch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an epoch's values, those by label under a name for each label."""
    flat: dict[str, Any] = {}
    for name, value in epoch.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": each for key, each in value.items()}
        else:
            flat[name] = value
    return flat


def _csv(table: Mapping[str, Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(csv_cell, table))
    writer.writerows(map(csv_cell, row) for row in zip(*table.values(), strict=True))
    return text.getvalue().encode()


def csv_cell(value: Any) -> Any:
    """Returns a cell; a text that a spreadsheet would compute gets an apostrophe before it."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _parquet(table: Mapping[str, Sequence[Any]]) -> bytes:
    types = _TRIAL_COLUMNS | _EPOCH_COLUMNS
    arrays = {name: _array(cells, types.get(name)) for name, cells in table.items()}
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(arrays), content, compression="zstd")
    return content.getvalue()


def _array(cells: Sequence[Any], type_: pyarrow.DataType | None) -> pyarrow.Array:
    """Returns a column; choices of several types become texts."""
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
    """Returns a value as JSON has it, which knows neither times nor infinity."""
    if isinstance(value, Mapping):
        return {str(key): _json_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _utc(instant: datetime | None) -> datetime | None:
    """Returns an instant with its zone; Optuna's have none and are local."""
    return instant and instant.astimezone(UTC)
