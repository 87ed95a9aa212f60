"""Builds a 0/1 target matrix from tags in one column, or from one column per label."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from canopy_search.training.data.labels.rows import LabelRows
from canopy_search.training.errors import LabelFileError

Separator = Literal["auto", "space", ",", ";", "|"]

LABELS_AT_MOST = 10_000
"""Columns with more distinct tags are assumed to hold something else, such as sentences."""

_SEPARATORS = {"|": "vertical bars", ";": "semicolons", ",": "commas"}
_LISTED = "correct it, or remove the column from data.columns.labels"
_GUESSED = (
    "there is no column of tags, so every other column must be a label; name the column of tags "
    "in data.columns.tags, or list the columns of labels in data.columns.labels"
)
_ONE_HOT: dict[Any, int] = {
    **dict.fromkeys(("0", "0.0", "false", "False", "FALSE", 0), 0),
    **dict.fromkeys(("1", "1.0", "true", "True", "TRUE", 1), 1),
}


@dataclass(frozen=True, eq=False)
class Targets:
    """The labels of every row.

    Attributes:
        layout: how the file stores them, as text.
        labels: names of the matrix columns.
        matrix: (rows, labels), uint8, 0 or 1.
    """

    layout: str
    labels: tuple[str, ...]
    matrix: NDArray[np.uint8]

    def text(self, row: int) -> str:
        """Returns the labels of one row for an error message."""
        return repr(" ".join(self.labels[at] for at in np.flatnonzero(self.matrix[row])))


def tag_targets(rows: LabelRows, column: str, separator: Separator) -> Targets:
    """Reads tags in one column, as text or as lists.

    Args:
        rows: the label file.
        column: the column of tags; an empty cell is an image without labels.
        separator: between two tags; ``auto`` is the one of ``|``, ``;`` and ``,`` that occurs, else
            white space.

    Raises:
        LabelFileError: a cell is neither text nor a list of text, two separators occur, or there
            are more than `LABELS_AT_MOST` labels.
    """
    cells = rows.column(column)
    texts = [_cell_text(rows, at, column, cell) for at, cell in enumerate(cells)]
    are_lists = any(isinstance(text, list) for text in texts) and not any(
        isinstance(text, str) and text for text in texts
    )
    mark, layout = _separator(rows, [text for text in texts if isinstance(text, str)], separator)
    tags = [frozenset(_tags(text, mark)) for text in texts]
    labels = tuple(sorted(frozenset().union(*tags)))
    if len(labels) > LABELS_AT_MOST:
        raise LabelFileError(
            f"{rows.path}: column {column!r}: {len(labels):,} different tags, more than "
            f"{LABELS_AT_MOST:,}; is it the column of tags? name the right one in data.columns.tags"
        )
    _check_labels(rows, tags, labels)
    position = {label: at for at, label in enumerate(labels)}
    matrix = np.zeros((len(tags), len(labels)), np.uint8)
    for at, row in enumerate(tags):
        matrix[at, [position[tag] for tag in row]] = 1
    return Targets("tags in lists" if are_lists else layout, labels, matrix)


def one_hot_targets(rows: LabelRows, labels: Sequence[str], *, are_listed: bool) -> Targets:
    """Reads a column of 0 and 1, or of true and false, for each label.

    Args:
        rows: the label file.
        labels: names of the columns.
        are_listed: whether the settings list them; otherwise they are the remaining columns.

    Raises:
        LabelFileError: there are no label columns, or a cell has another value.
    """
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
                f"{rows.path}: row 1: the column {label!r} has a name with control characters; "
                "rename it"
            )
        cells = rows.column(label)
        try:
            matrix[:, at] = [_ONE_HOT[cell] for cell in cells]
        except (KeyError, TypeError):
            remedy = _LISTED if are_listed else _GUESSED
            matrix[:, at] = [
                _zero_or_one(rows, row, label, cell, remedy) for row, cell in enumerate(cells)
            ]
    return Targets("a column for each label", labels, matrix)


def zero_or_one(cell: Any) -> int | None:
    """Returns the value of a one-hot cell, None if it is not one."""
    if isinstance(cell, str):
        cell = cell.strip().lower()
    elif not isinstance(cell, int | float):
        return None
    return _ONE_HOT.get(cell)


def _zero_or_one(rows: LabelRows, row: int, label: str, cell: Any, remedy: str) -> int:
    value = zero_or_one(cell)
    if value is None:
        raise rows.error(row, f"column {label!r}: expected 0 or 1, found {cell!r}; {remedy}")
    return value


def _cell_text(rows: LabelRows, at: int, column: str, cell: Any) -> str | list[str]:
    if cell is None:
        return ""
    if isinstance(cell, list) and all(isinstance(tag, str) for tag in cell):
        return cell
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    if not isinstance(cell, str):
        raise rows.error(
            at, f"column {column!r}: expected tags, found {cell!r}; write them as text or a list"
        )
    return cell


def _separator(
    rows: LabelRows, texts: Sequence[str], separator: Separator
) -> tuple[str | None, str]:
    """Returns the separator of tags (None is white space) and its description."""
    if separator == "auto":
        found = [mark for mark in _SEPARATORS if any(mark in text for text in texts)]
        if len(found) > 1:
            counts = Counter({mark: sum(mark in text for text in texts) for mark in found})
            marks = " and ".join(repr(mark) for mark in found)
            raise LabelFileError(
                f"{rows.path}: tags contain {marks}; set data.columns.separator to the one between "
                f"two tags, probably {counts.most_common(1)[0][0]!r}"
            )
        mark = found[0] if found else "space"
    else:
        mark = separator
    if mark == "space":
        return None, "tags separated by spaces"
    return mark, f"tags separated by {_SEPARATORS[mark]}"


def _tags(text: str | list[str], mark: str | None) -> list[str]:
    if isinstance(text, list):
        return [tag.strip() for tag in text if tag.strip()]
    if mark is None:
        return text.split()
    return [tag.strip() for tag in text.split(mark) if tag.strip()]


def _check_labels(rows: LabelRows, tags: Sequence[frozenset[str]], labels: Sequence[str]) -> None:
    """Raises if a label has control characters and so cannot be shown or stored."""
    for label in labels:
        if not label.isprintable():
            at = next(at for at, row in enumerate(tags) if label in row)
            raise rows.error(
                at, f"the tag {label!r} contains control characters; remove them from the file"
            )
