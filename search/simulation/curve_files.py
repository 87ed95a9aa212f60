"""Learning curves of a whole space as a file: our own Parquet, or any CSV."""

import csv
import io
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    distribution_to_json,
    json_to_distribution,
)

from canopy_search.filestore.atomic import write_atomically
from canopy_search.filestore.messages import first_line
from canopy_search.filestore.user_files import read_file
from canopy_search.search.errors import CurveTableError
from canopy_search.search.simulation.curves import CurvePoint, CurveTable
from canopy_search.storage.study.parameters import NETWORK
from canopy_search.training.errors import nearest_hint

_METADATA_KEY = b"canopy"
_VERSION = 1
_MOST_BYTES = 2**30
_AP_COLUMNS = ("val_ap", "val_map")


def write_curves(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    distributions: Mapping[str, BaseDistribution],
    about: Mapping[str, Any],
) -> None:
    """Writes learning curves atomically.

    Args:
        path: the Parquet file.
        rows: one for each epoch of each point: the parameters, `epoch`, `stage` and the metrics.
        distributions: the space.
        about: JSON values, including `epochs`.
    """
    document = {
        **about,
        "version": _VERSION,
        "space": {name: distribution_to_json(domain) for name, domain in distributions.items()},
    }
    # Rows need not have the same metrics, and pyarrow takes the columns from the first.
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    table = pyarrow.table(columns)
    table = table.replace_schema_metadata({_METADATA_KEY: json.dumps(document).encode()})
    content = io.BytesIO()
    pyarrow.parquet.write_table(table, content, compression="zstd")
    write_atomically(path, content.getvalue())


def read_curves(path: Path, where: Mapping[str, str] | None = None) -> CurveTable:
    """Reads learning curves from a file of `write_curves`, or from a CSV file.

    A CSV file has one row an epoch. ``epoch`` counts from 1, ``val_ap`` or ``val_map`` is the AP,
    ``seconds`` the duration of the epoch; every other column whose values differ is a parameter.
    Such a file does not record shared epochs, so every point has its own. A curve that ends early
    is extended with its best AP, at no cost, and an epoch without a time (0 or empty) costs the
    median of its curve.

    Args:
        path: the file.
        where: column → value, as text: only rows with these values are read.

    Raises:
        CurveTableError: the file does not exist or has another format, or no row matches.
    """
    is_csv = path.suffix.lower() == ".csv"
    try:
        content = read_file(path, _MOST_BYTES)
    except FileNotFoundError as error:
        remedy = "" if is_csv else f"; make one with: canopy tabulate --output {path}"
        raise CurveTableError(f"{path}: there is no such file{remedy}") from error
    except OSError as error:
        raise CurveTableError(f"{path}: cannot be read: {error.strerror}") from error
    if is_csv:
        return _read_csv(path, content, where or {})
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
    except (OSError, pyarrow.ArrowException) as error:
        raise CurveTableError(f"{path}: not a Parquet file: {first_line(error)}") from error
    metadata = table.schema.metadata or {}
    if _METADATA_KEY not in metadata:
        raise CurveTableError(f"{path}: not written by canopy tabulate")
    try:
        about = json.loads(metadata[_METADATA_KEY])
        version, epochs, space = about["version"], int(about["epochs"]), about.pop("space")
        distributions = {name: json_to_distribution(text) for name, text in space.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CurveTableError(f"{path}: not written by canopy tabulate") from error
    if version != _VERSION:
        raise CurveTableError(
            f"{path}: version {version}, but this Canopy reads {_VERSION}; create it again"
        )
    rows = _rows_where(table.to_pylist(), where or {}, path)
    for name in where or {}:
        distributions.pop(name, None)
    curves: defaultdict[tuple[Any, ...], list[CurvePoint]] = defaultdict(list)
    try:
        for row in sorted(rows, key=lambda row: int(row["epoch"])):
            point = tuple(row[name] for name in distributions)
            seconds = (row.get("train_s") or 0.0) + (row.get("val_s") or 0.0)
            curves[point].append(CurvePoint(row["stage"], row.get("val_ap"), seconds))
    except (KeyError, TypeError, ValueError) as error:
        raise CurveTableError(f"{path}: not written by canopy tabulate") from error
    return CurveTable(distributions, epochs, dict(curves), about)


def _rows_where(
    rows: Sequence[dict[str, Any]], where: Mapping[str, str], path: Path
) -> Sequence[dict[str, Any]]:
    """Returns the rows with these values."""
    for column, value in where.items():
        columns = list(rows[0]) if rows else []
        if column not in columns:
            raise CurveTableError(f"{path}: no column {column}; {nearest_hint(column, columns)}")
        found = list(dict.fromkeys(str(row[column]) for row in rows))
        if value not in found:
            raise CurveTableError(
                f"{path}: {column} is never {value}; {nearest_hint(value, found)}"
            )
        rows = [row for row in rows if str(row[column]) == value]
    return rows


def _read_csv(path: Path, content: bytes, where: Mapping[str, str]) -> CurveTable:
    try:
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        rows: Sequence[dict[str, Any]] = list(csv.DictReader(text, restval=""))
    except (UnicodeError, csv.Error) as error:
        raise CurveTableError(f"{path}: not a CSV file: {first_line(error)}") from error
    if not rows:
        raise CurveTableError(f"{path}: no rows; expected one an epoch")
    ap = next((name for name in _AP_COLUMNS if name in rows[0]), None)
    for name, found in (("epoch", "epoch"), ("val_ap", ap), ("seconds", "seconds")):
        if found not in rows[0]:
            raise CurveTableError(f"{path}: no column {name}; found {', '.join(map(str, rows[0]))}")
    for number, row in enumerate(rows, start=2):
        if None in row:
            raise CurveTableError(f"{path}: row {number} has more cells than the header")
    rows = _rows_where(rows, where, path)
    values: dict[str, list[str]] = {
        name: list(dict.fromkeys(row[name] for row in rows))
        for name in rows[0]
        if name not in {"epoch", ap, "seconds"}
    }
    parameters = [name for name, found in values.items() if len(found) > 1]
    if not parameters:
        raise CurveTableError(f"{path}: only one curve, so there is nothing to search")
    points: defaultdict[tuple[Any, ...], dict[int, tuple[float, float]]] = defaultdict(dict)
    for row in rows:
        point = tuple(row[name] for name in parameters)
        epoch, val_ap, seconds = _csv_numbers(row, str(ap), f"{path}: {' '.join(point)}")
        if epoch in points[point]:
            raise CurveTableError(
                f"{path}: epoch {epoch} of {' '.join(point)} appears twice; expected one row for "
                f"each epoch of each {', '.join(parameters)}"
            )
        points[point][epoch] = (val_ap, seconds)
    epochs = max(max(curve) for curve in points.values())
    curves = {point: _extended(point, curve, epochs, path) for point, curve in points.items()}
    # Canopy's name of the parameter is backbone.
    names = {"network": NETWORK} if NETWORK not in parameters else {}
    distributions: dict[str, BaseDistribution] = {
        names.get(name, name): CategoricalDistribution(values[name]) for name in parameters
    }
    return CurveTable(distributions, epochs, curves, {"epochs": epochs})


def _csv_numbers(row: Mapping[str, str], ap: str, where: str) -> tuple[int, float, float]:
    """Returns epoch, AP and seconds of a row."""
    try:
        epoch, val_ap = int(row["epoch"]), float(row[ap])
        seconds = float(row["seconds"] or 0)
    except ValueError as error:
        raise CurveTableError(f"{where}: {error}") from error
    if epoch < 1:
        raise CurveTableError(f"{where}: epoch {epoch}; epochs count from 1")
    if not (0 <= val_ap <= 1 and math.isfinite(seconds) and seconds >= 0):
        raise CurveTableError(
            f"{where}: epoch {epoch} has AP {val_ap:g} and {seconds:g} s; expected an AP from 0 to "
            "1 and a time of 0 or more"
        )
    return epoch, val_ap, seconds


def _extended(
    point: tuple[str, ...], curve: Mapping[int, tuple[float, float]], epochs: int, path: Path
) -> list[CurvePoint]:
    """Returns a curve of full length, as described at `read_curves`."""
    name = " ".join(point)
    if missing := [epoch for epoch in range(1, max(curve) + 1) if epoch not in curve]:
        raise CurveTableError(f"{path}: epoch {missing[0]} of {name} is missing")
    timed = [seconds for _, seconds in curve.values() if seconds > 0]
    median_s = statistics.median(timed) if timed else 0.0
    best_ap = max(val_ap for val_ap, _ in curve.values())
    extended = {epoch: curve.get(epoch, (best_ap, None)) for epoch in range(1, epochs + 1)}
    return [
        CurvePoint(f"{name} {epoch}", val_ap, 0.0 if seconds is None else seconds or median_s)
        for epoch, (val_ap, seconds) in extended.items()
    ]
