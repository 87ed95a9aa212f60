"""Reads image names, labels and a 0/1 target matrix from a label file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from canopy_search.filestore.retry import Retrier
from canopy_search.filestore.urls import Source
from canopy_search.training.data.labels.parts import column_parts, listed_parts
from canopy_search.training.data.labels.rows import LabelRows, is_empty
from canopy_search.training.data.labels.tags import tag_targets
from canopy_search.training.data.labels.targets import Targets, one_hot_targets
from canopy_search.training.data.layouts.recognise import read_rows
from canopy_search.training.errors import LabelFileError, listed, nearest_hint, shown
from canopy_search.training.settings import ColumnSettings, DataSettings, Part

SPLIT_COLUMN = "split"
GROUP_COLUMN = "group"

# Matches nearly every name; parsing 40,000 of them as paths takes over a second.
_PLAIN_NAME = re.compile(r"\w[\w-]*(\.\w+)?")


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The content of a label file, in an order independent of the order of its rows.

    Attributes:
        path: the file, or its URL.
        layout: its format as text, such as ``CSV, tags separated by spaces``.
        image_names: sorted and unique, as in the file, with or without an extension.
        labels: every label that occurs, sorted; or the label columns, if the file has those.
        targets: (images, labels), uint8, 1 if the image has the label, `UNKNOWN` if nobody knows.
        row_numbers: row of each image in the file.
        parts: part of each image in the user's own split, None if there is none.
        groups: group of each image, None if there is no such column; "" is a group of one image.
        split_origin: what determines the parts, in words.
        ignored: columns that are not used.
    """

    path: Source
    layout: str
    image_names: tuple[str, ...]
    labels: tuple[str, ...]
    targets: NDArray[np.uint8]
    row_numbers: tuple[int, ...]
    parts: tuple[Part, ...] | None = None
    groups: tuple[str, ...] | None = None
    split_origin: str = "the file's split column"
    ignored: tuple[str, ...] = ()

    def select(self, images: Sequence[int]) -> "LabelTable":
        """Returns the table with the images at these positions only, and all labels."""
        return replace(
            self,
            image_names=tuple(self.image_names[at] for at in images),
            targets=self.targets[list(images)],
            row_numbers=tuple(self.row_numbers[at] for at in images),
            parts=self.parts and tuple(self.parts[at] for at in images),
            groups=self.groups and tuple(self.groups[at] for at in images),
        )

    def same_row(self, one: int, other: int) -> bool:
        """Whether two images have the same labels, part and group."""
        same = bool((self.targets[one] == self.targets[other]).all())
        for column in (self.parts, self.groups):
            same = same and (column is None or column[one] == column[other])
        return same


def read_label_file(
    path: Source, settings: DataSettings, retrier: Retrier | None = None
) -> LabelTable:
    """Reads the labels of a data set, in any of the layouts of `training.data.layouts`.

    An image with empty tags has no labels. Equal rows count once.

    Args:
        path: the label file, or the folder of a layout that has several.
        settings: layout, columns, split, and the word for no label.
        retrier: how long to wait for an unavailable file store; by default some minutes.

    Raises:
        LabelFileError: the file is missing, empty or malformed, lacks a column, names an image
            outside the folder, or has two different sets of labels for one image; with the row.
    """
    rows = read_rows(path, settings.layout, retrier, follow_links=settings.follow_links)
    return label_table(rows, settings, retrier)


def label_table(
    rows: LabelRows, settings: DataSettings, retrier: Retrier | None = None
) -> LabelTable:
    """Builds the table from rows; see `read_label_file`.

    Raises:
        LabelFileError: see `read_label_file`.
    """
    path, columns, split = rows.path, settings.columns, settings.split
    has_tags = columns.tags in rows.columns and columns.labels is None
    _check_columns(rows, columns, has_tags=has_tags)
    by_column = split if not split.lists else split.model_copy(update={"column": None})
    part_column = _optional_column(rows, by_column.column, SPLIT_COLUMN, "data.split.column")
    group_column = _optional_column(rows, split.group, GROUP_COLUMN, "data.split.group")
    if not rows.numbers:
        raise LabelFileError(f"{path}: no images below the header; add a row for every image")
    known = {columns.image, part_column, group_column}
    if has_tags:
        targets = tag_targets(rows, columns.tags, columns.separator)
        known.add(columns.tags)
    else:
        # A split column is never a label, even if it is not used.
        reserved = known | {SPLIT_COLUMN, GROUP_COLUMN}
        others = tuple(name for name in rows.columns if name not in reserved)
        targets = one_hot_targets(rows, columns.labels or rows.labels or others, columns)
        known |= set(targets.labels)
    if settings.none is not None:
        targets = targets.without(settings.none, path)
    names = [_checked_name(rows, at, value) for at, value in enumerate(rows.column(columns.image))]
    parts: tuple[Part, ...] | None = None
    if part_column:
        parts = column_parts(rows, part_column, split.values)
    elif split.lists:
        parts = listed_parts(names, split.lists, path, retrier)
    if parts is not None and set(parts) == {"train"}:
        parts = None  # nothing is held out
    groups = _groups(rows, group_column) if group_column else None
    table = LabelTable(
        path=path,
        layout=f"{rows.layout}, {targets.layout}",
        image_names=tuple(names),
        labels=targets.labels,
        targets=targets.matrix,
        row_numbers=tuple(rows.numbers),
        parts=parts,
        groups=groups,
        split_origin="the file's split column" if part_column else "the lists of data.split",
        ignored=tuple(name for name in rows.columns if name not in known),
    )
    return table.select(_first_rows(table, targets))


def _check_columns(rows: LabelRows, columns: ColumnSettings, *, has_tags: bool) -> None:
    """Raises LabelFileError unless the file has the columns of the settings."""
    found = listed(rows.columns, 20, ",")
    labels = columns.labels or ()
    missing = [name for name in (columns.image, *labels) if name not in rows.columns]
    no_labels = not has_tags and not labels and set(rows.columns) <= {columns.image}
    if no_labels or (missing == [columns.image] and not has_tags and not labels):
        missing.append(columns.tags)
    if missing:
        hint = nearest_hint(missing[0], rows.columns)
        without = listed(missing, separator=" and ")
        raise LabelFileError(
            f"{rows.path}: row 1: expected the columns {columns.image},"
            f"{listed(labels, 20, ',') or columns.tags}, found {found}; {without} missing; "
            f"correct the header, or name the columns in data.columns ({hint})"
        )


def _optional_column(rows: LabelRows, name: str | None, default: str, key: str) -> str | None:
    """Returns the column of a setting; None if it is disabled or absent under ``auto``."""
    if name is None or (name == "auto" and default not in rows.columns):
        return None
    if name == "auto":
        return default
    if name not in rows.columns:
        raise LabelFileError(
            f"{rows.path}: {key}: no column {shown(name)}; {nearest_hint(name, rows.columns)}"
        )
    return name


def _checked_name(rows: LabelRows, at: int, value: Any) -> str:
    """Returns the normalised name; raises if it is not below the folder of images."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise rows.error(
            at, f"expected the name of an image, found {shown(value)}; write it as text"
        )
    name = (value or "").strip()
    if not name:
        raise rows.error(at, "the name of the image is empty; name the image")
    if _PLAIN_NAME.fullmatch(name):
        return name
    windows = PureWindowsPath(name)
    posix = PurePosixPath(name)
    outside = posix.is_absolute() or windows.anchor or ".." in posix.parts + windows.parts
    if outside or not posix.name or not name.isprintable():
        raise rows.error(
            at,
            f"{shown(name)} is not inside the folder of images; write a path relative to "
            "data.images, without '..' and control characters",
        )
    return str(posix)


def _groups(rows: LabelRows, column: str) -> tuple[str, ...]:
    values = rows.column(column)
    return tuple("" if is_empty(value) else str(value).strip() for value in values)


def _first_rows(table: LabelTable, targets: Targets) -> list[int]:
    """Returns the position of each image's first row, in the order of the names."""
    first: dict[str, int] = {}
    for at, name in enumerate(table.image_names):
        before = first.setdefault(name, at)
        if before == at or table.same_row(before, at):
            continue
        one, other = table.row_numbers[before], table.row_numbers[at]
        here, there = targets.text(before), targets.text(at)
        what = f"labels, {here} and {there}" if here != there else "splits or groups"
        raise LabelFileError(
            f"{table.path}: rows {one} and {other}: {shown(name)} has two different sets of "
            f"{what}; keep one of them"
        )
    return [first[name] for name in sorted(first)]
