"""Learning curves of every point of a search space, as one Parquet file."""

import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow
import pyarrow.parquet
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution

from search.errors import CurveTableError
from training.atomic import write_atomically

_METADATA_KEY = b"canopy"
_VERSION = 1


@dataclass(frozen=True)
class CurvePoint:
    """One epoch of one point.

    Attributes:
        stage: its stage key; points share those that they have in common.
        val_ap: validation AP after it; None where the run diverged.
        seconds: training and validation time.
    """

    stage: str
    val_ap: float | None
    seconds: float


class Curves(Protocol):
    """Learning curves of a whole space, however they come about."""

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The space, by dotted name of the setting."""

    @property
    def epochs(self) -> int:
        """Of a full run."""

    def curve(self, params: Mapping[str, Any]) -> Sequence[CurvePoint]:
        """Returns the learning curve of a setting, one point an epoch."""


@dataclass(frozen=True)
class CurveTable:
    """What is known of a whole space.

    Attributes:
        distributions: the space, by dotted name of the setting.
        epochs: of a full run.
        curves: values of the parameters in the order of `distributions` → one entry an epoch.
        about: what the file says of its origin.
    """

    distributions: dict[str, BaseDistribution]
    epochs: int
    curves: dict[tuple[Any, ...], list[CurvePoint]]
    about: dict[str, Any]

    def curve(self, params: Mapping[str, Any]) -> list[CurvePoint]:
        """Returns the learning curve of a setting.

        Raises:
            CurveTableError: it is not in the table.
        """
        point = tuple(params[name] for name in self.distributions)
        try:
            return self.curves[point]
        except KeyError:
            raise CurveTableError(f"the table has no point {dict(params)}") from None


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
        about: JSON values, `epochs` among them.
    """
    document = {
        **about,
        "version": _VERSION,
        "space": {name: distribution_to_json(each) for name, each in distributions.items()},
    }
    # Rows need not have the same metrics, and pyarrow takes the columns from the first.
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    table = pyarrow.table(columns)
    table = table.replace_schema_metadata({_METADATA_KEY: json.dumps(document).encode()})
    content = io.BytesIO()
    pyarrow.parquet.write_table(table, content, compression="zstd")
    write_atomically(path, content.getvalue())


def read_curves(path: Path) -> CurveTable:
    """Reads what `write_curves` wrote.

    Raises:
        CurveTableError: there is no such file, or it is something else.
    """
    try:
        table = pyarrow.parquet.read_table(path)
    except FileNotFoundError as error:
        raise CurveTableError(
            f"{path}: there is no such file; make one with: canopy tabulate --output {path}"
        ) from error
    except (OSError, pyarrow.ArrowException) as error:
        raise CurveTableError(f"{path}: not a Parquet file: {_first_line(error)}") from error
    metadata = table.schema.metadata or {}
    if _METADATA_KEY not in metadata:
        raise CurveTableError(f"{path}: not written by canopy tabulate")
    about = json.loads(metadata[_METADATA_KEY])
    if about["version"] != _VERSION:
        raise CurveTableError(
            f"{path}: of version {about['version']}, this Canopy reads {_VERSION}; make it anew"
        )
    space = about.pop("space")
    distributions = {name: json_to_distribution(text) for name, text in space.items()}
    curves: defaultdict[tuple[Any, ...], list[CurvePoint]] = defaultdict(list)
    for row in sorted(table.to_pylist(), key=lambda row: int(row["epoch"])):
        point = tuple(row[name] for name in distributions)
        seconds = (row.get("train_s") or 0.0) + (row.get("val_s") or 0.0)
        curves[point].append(CurvePoint(row["stage"], row.get("val_ap"), seconds))
    return CurveTable(distributions, int(about["epochs"]), dict(curves), about)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
