"""Reading label files into one table of names, labels and a 0/1 target matrix."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from training.errors import LabelFileError

NAME_COLUMN = "image_name"
TAGS_COLUMN = "tags"

# Nearly every name; splitting 40,000 of them into the parts of a path takes over a second.
_PLAIN_NAME = re.compile(r"\w[\w-]*(\.\w+)?")


@dataclass(frozen=True, eq=False)
class LabelTable:
    """What a label file says, in an order that does not depend on the order of its rows.

    Attributes:
        image_names: sorted and unique, as the file writes them, with or without an extension.
        labels: every label that occurs, sorted.
        targets: (images, labels), uint8, 1 where the image has the label.
    """

    image_names: tuple[str, ...]
    labels: tuple[str, ...]
    targets: NDArray[np.uint8]


@dataclass(frozen=True)
class _Row:
    """One line of a label file: where it stands and which tags it gives."""

    line: int
    tags: frozenset[str]


def read_label_file(path: Path) -> LabelTable:
    """Reads Kaggle's layout, ``image_name,tags`` with tags separated by spaces.

    An image with empty tags has none of the labels. Columns beside these two are ignored.

    Args:
        path: a CSV file in UTF-8.

    Raises:
        LabelFileError: the file is missing, empty, no CSV, lacks a column, names an image outside
            the folder, or gives one image two different sets of tags.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = _read_rows(path, file)
    except FileNotFoundError:
        raise LabelFileError(f"{path}: no such label file; check data.labels") from None
    except OSError as error:
        raise LabelFileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LabelFileError(
            f"{path}: expected UTF-8 text, found byte 0x{error.object[error.start]:02x} "
            f"({error.reason}); save the file as CSV in UTF-8"
        ) from error
    if not rows:
        raise LabelFileError(f"{path}: no images below the header; add a row for every image")
    return _table(rows)


def _read_rows(path: Path, file: TextIO) -> dict[str, _Row]:
    """Image name → its row, for all lines of the file."""
    reader = csv.reader(file, strict=True)
    rows: dict[str, _Row] = {}
    try:
        header = next(reader, None)
        if header is None:
            raise LabelFileError(
                f"{path}: the file is empty; expected a header {NAME_COLUMN},{TAGS_COLUMN} "
                "and a row for every image"
            )
        name_at, tags_at = _column_positions(path, header)
        for cells in reader:
            if not cells:
                continue
            if len(cells) <= max(name_at, tags_at):
                raise LabelFileError(
                    f"{path}: row {reader.line_num}: expected {NAME_COLUMN} and {TAGS_COLUMN}, "
                    f"found only {','.join(cells)!r}; add the missing comma"
                )
            name = _checked_name(path, reader.line_num, cells[name_at].strip())
            row = _Row(reader.line_num, frozenset(cells[tags_at].split()))
            first = rows.setdefault(name, row)
            if first.tags != row.tags:
                raise LabelFileError(
                    f"{path}: rows {first.line} and {row.line}: {name!r} has two different sets "
                    f"of tags, {_written(first.tags)} and {_written(row.tags)}; keep one of them"
                )
    except csv.Error as error:
        raise LabelFileError(
            f"{path}: row {reader.line_num}: not CSV: {error}; correct the row"
        ) from error
    return rows


def _column_positions(path: Path, header: list[str]) -> tuple[int, int]:
    """Where the name and the tags stand in a row."""
    columns = [cell.strip() for cell in header]
    missing = [column for column in (NAME_COLUMN, TAGS_COLUMN) if column not in columns]
    if missing:
        raise LabelFileError(
            f"{path}: row 1: expected the columns {NAME_COLUMN},{TAGS_COLUMN}, "
            f"found {','.join(columns)}; {' and '.join(missing)} missing, correct the header"
        )
    return columns.index(NAME_COLUMN), columns.index(TAGS_COLUMN)


def _checked_name(path: Path, line: int, name: str) -> str:
    """The name, in one spelling, if it lies below the folder of images."""
    if not name:
        raise LabelFileError(f"{path}: row {line}: {NAME_COLUMN} is empty; name the image")
    if _PLAIN_NAME.fullmatch(name):
        return name
    windows = PureWindowsPath(name)
    posix = PurePosixPath(name)
    outside = posix.is_absolute() or windows.anchor or ".." in posix.parts + windows.parts
    if outside or "\0" in name or not posix.name:
        raise LabelFileError(
            f"{path}: row {line}: {name!r} does not lie in the folder of images; "
            "write a path relative to data.images, without '..'"
        )
    return str(posix)


def _written(tags: frozenset[str]) -> str:
    return repr(" ".join(sorted(tags)))


def _table(rows: dict[str, _Row]) -> LabelTable:
    image_names = tuple(sorted(rows))
    labels = tuple(sorted(frozenset().union(*(row.tags for row in rows.values()))))
    column = {label: position for position, label in enumerate(labels)}
    targets = np.zeros((len(image_names), len(labels)), np.uint8)
    for position, name in enumerate(image_names):
        targets[position, [column[tag] for tag in rows[name].tags]] = 1
    return LabelTable(image_names, labels, targets)
