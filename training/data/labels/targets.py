"""The target matrix of a data set, and how it is built from one column per label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from canopy_search.filestore.urls import Source
from canopy_search.training.data.labels.rows import LabelRows, is_empty
from canopy_search.training.errors import LabelFileError, nearest_hint, shown
from canopy_search.training.settings import ColumnSettings

UNKNOWN = 255
"""Target of an image and a label if nobody knows whether the image has it."""

_LISTED = "correct it, or remove the column from data.columns.labels"
_GUESSED = (
    "there is no column of tags, so every other column must be a label; name the column of tags "
    "in data.columns.tags, or list the columns of labels in data.columns.labels"
)
_BLANK = None
_UNCERTAIN = -1
_CELLS: dict[Any, int | None] = {
    **dict.fromkeys(("0", "0.0", "false", "False", "FALSE", "no", 0), 0),
    **dict.fromkeys(("1", "1.0", "true", "True", "TRUE", "yes", 1), 1),
    **dict.fromkeys(("-1", "-1.0", -1), _UNCERTAIN),
    **dict.fromkeys(("", "nan", "NaN", "none", "None", "null", "NULL", None), _BLANK),
    **dict.fromkeys(("na", "NA", "n/a", "#n/a", "<na>"), _BLANK),
}
_MEANINGS = {"zero": 0, "one": 1, "ignore": UNKNOWN}


@dataclass(frozen=True, eq=False)
class Targets:
    """The labels of every row.

    Attributes:
        layout: how the file stores them, as text.
        labels: names of the matrix columns.
        matrix: (rows, labels), uint8, 0 or 1, or `UNKNOWN`.
    """

    layout: str
    labels: tuple[str, ...]
    matrix: NDArray[np.uint8]

    def text(self, row: int) -> str:
        """Returns the labels of one row for an error message."""
        return shown(" ".join(self.labels[at] for at in np.flatnonzero(self.matrix[row] == 1)))

    def without(self, word: str, path: Source) -> "Targets":
        """Returns the targets without the column of a word that means no label.

        Raises:
            LabelFileError: there is no such word.
        """
        if word not in self.labels:
            raise LabelFileError(
                f"{path}: data.none: no label {shown(word)}; {nearest_hint(word, self.labels)}"
            )
        kept = [at for at, label in enumerate(self.labels) if label != word]
        return Targets(self.layout, tuple(self.labels[at] for at in kept), self.matrix[:, kept])


def one_hot_targets(rows: LabelRows, labels: Sequence[str], columns: ColumnSettings) -> Targets:
    """Reads a column of 0 and 1, or of true and false, for each label.

    Args:
        rows: the label file.
        labels: names of the columns.
        columns: what -1 and an empty cell mean.

    Raises:
        LabelFileError: there are no label columns, a cell has another value or one whose meaning
            is not set, or nothing is known about a label.
    """
    meaning: dict[int | None, int] = {0: 0, 1: 1}
    if columns.uncertain is not None:
        meaning[_UNCERTAIN] = _MEANINGS[columns.uncertain]
    if columns.blank is not None:
        meaning[_BLANK] = _MEANINGS[columns.blank]
    if not labels:
        raise LabelFileError(
            f"{rows.path}: no columns of labels; expected a column tags, or a column of 0 and 1 "
            "for each label"
        )
    labels = tuple(sorted(labels))
    matrix = np.empty((len(rows.numbers), len(labels)), np.uint8)
    for at, label in enumerate(labels):
        if not label.isprintable():
            raise LabelFileError(
                f"{rows.path}: row 1: the column {shown(label)} has a name with control "
                "characters; rename it"
            )
        cells = rows.column(label)
        try:
            matrix[:, at] = [meaning[_CELLS[cell]] for cell in cells]
        except (KeyError, TypeError):
            remedy = _GUESSED if columns.labels is None and rows.labels is None else _LISTED
            matrix[:, at] = [
                _target(rows, row, (label, cell, remedy), meaning) for row, cell in enumerate(cells)
            ]
        if (matrix[:, at] == UNKNOWN).all():
            raise LabelFileError(
                f"{rows.path}: column {shown(label)}: nothing is known about this label, every "
                "cell is ignored; remove the column, or set data.columns.uncertain or "
                "data.columns.blank to zero"
            )
    return Targets("a column for each label", labels, matrix)


def cell_value(cell: Any) -> int | None:
    """Returns the value of a one-hot cell: 0, 1, -1, or None for an empty one.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(cell, str):
        cell = cell.strip().lower()
    if is_empty(cell):
        return _BLANK
    if isinstance(cell, str) and cell not in _CELLS:
        cell = float(cell)
    if not isinstance(cell, str | int | float) or cell not in _CELLS:
        raise ValueError(shown(cell))
    return _CELLS[cell]


def _target(
    rows: LabelRows,
    row: int,
    column: tuple[str, Any, str],
    meaning: Mapping[int | None, int],
) -> int:
    """Returns the target of a cell, given with its column's name and the remedy for a wrong one."""
    label, cell, remedy = column
    try:
        value = cell_value(cell)
    except ValueError:
        raise rows.error(
            row, f"column {shown(label)}: expected 0 or 1, found {shown(cell)}; {remedy}"
        ) from None
    if value not in meaning:
        key, choices = (
            ("blank", "zero or ignore") if value is _BLANK else ("uncertain", "zero, one or ignore")
        )
        raise rows.error(
            row,
            f"column {shown(label)}: expected 0 or 1, found {shown(cell)}; set data.columns.{key} "
            f"to {choices}, or correct it",
        )
    return meaning[value]


def has_label(targets: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Returns which images are known to have which labels."""
    has: NDArray[np.bool_] = targets == 1
    return has


def has_exclusive_labels(targets: NDArray[np.uint8]) -> bool:
    """Whether every image has exactly one of several labels."""
    return targets.shape[1] > 1 and bool(
        (has_label(targets).sum(axis=1) == 1).all() and is_known(targets).all()
    )


def is_known(targets: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Returns which targets are known."""
    known: NDArray[np.bool_] = targets != UNKNOWN
    return known


def as_float(targets: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns targets for a network: float32, NaN where they are unknown."""
    values = targets.astype(np.float32)
    values[targets == UNKNOWN] = np.nan
    return values
