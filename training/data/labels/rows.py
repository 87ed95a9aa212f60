"""Label files as plain columns, and those in text: CSV and JSON."""

import csv
import io
import json
import math
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from canopy_search.filestore.csv_text import text_of_cell
from canopy_search.filestore.messages import first_line
from canopy_search.filestore.retry import Retrier
from canopy_search.filestore.urls import Source
from canopy_search.training.data.files.sources import broken_link_text, read_source, reported
from canopy_search.training.errors import LabelFileError, listed, shown
from canopy_search.training.settings import LayoutName

_NO_LABEL_FILE = {
    b"PK\x03\x04": "a zip or Excel file; save the table as CSV in UTF-8",
    b"\x1f\x8b": "a gzip file; unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the table as CSV in UTF-8",
    b"\x89PNG": "a PNG image; set data.labels to the label file, data.images to the images",
    b"\xff\xd8\xff": "a JPEG image; set data.labels to the label file, data.images to the images",
    b"%PDF": "a PDF; save the table as CSV in UTF-8",
}
_DELIMITERS = {",": "CSV", ";": "CSV with semicolons", "\t": "tab-separated"}
# Excel's hint at the delimiter, before the header.
_SEP_LINE = re.compile(r"[ \t]*\"?sep=(.)\"?[ \t,;]*\r?(\n|\Z)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class LabelRows:
    """The raw rows of a label file.

    Attributes:
        path: the file, or its URL.
        layout: the file format as text.
        columns: names of the columns, in order.
        numbers: number of each row in messages: its line in a text file, where the header of a CSV
            is row 1; counted from 1 in a Parquet file.
        column: name → one value per row: text in a CSV, otherwise the file's value, None if it has
            none.
        name: of the layout that the rows were read from.
        labels: the columns of labels, if the layout determines them.
        blank: the usual meaning of an empty cell in this layout, if it has one.
    """

    path: Source
    layout: str
    columns: tuple[str, ...]
    numbers: Sequence[int]
    column: Callable[[str], Sequence[Any]]
    name: LayoutName = "table"
    labels: tuple[str, ...] | None = None
    blank: Literal["zero", "ignore"] | None = None

    def error(self, row: int, message: str) -> LabelFileError:
        """Returns an error about the row at position `row`."""
        return LabelFileError(f"{self.path}: row {self.numbers[row]}: {message}")


def is_empty(cell: Any) -> bool:
    """Whether a cell has no value; pandas writes such a one to Parquet as NaN."""
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def label_content(path: Source, retrier: Retrier | None = None) -> bytes:
    """Returns the content of a label file.

    Args:
        path: the file, or its URL.
        retrier: how long to wait for an unavailable file store; by default some minutes.

    Raises:
        LabelFileError: the file is missing, cannot be read, or is known to be no label file.
    """
    try:
        with reported(LabelFileError):
            content = read_source(path, retrier)
    except FileNotFoundError as error:
        if isinstance(path, Path) and path.is_symlink():
            raise LabelFileError(f"data.labels: {broken_link_text(path)}") from error
        raise LabelFileError(f"{path}: no such label file; check data.labels") from error
    except OSError as error:
        raise LabelFileError(
            f"{path}: cannot be read: {error.strerror}; check data.labels"
        ) from error
    for beginning, what in _NO_LABEL_FILE.items():
        if content.startswith(beginning):
            raise LabelFileError(f"{path}: this is {what}")
    return content


def text_rows(path: Source, content: bytes) -> LabelRows:
    """Reads the content of a text file with a row for each image.

    Args:
        path: the file, or its URL, for messages.
        content: CSV (or with semicolons or tabs) in UTF-8, or in UTF-16 with a byte order mark; or
            JSON, one object per line or an array of objects.

    Raises:
        LabelFileError: the file is empty, damaged or not a label file; with the row.
    """
    text = label_text(path, content)
    first = text.lstrip()[:1]
    if not first:
        raise LabelFileError(
            f"{path}: the file is empty; expected a header such as image_name,tags and a row for "
            "every image"
        )
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise LabelFileError(
            f"{path}: row {row}: expected text, found a NUL byte; the file is damaged, or UTF-16 "
            "without a byte order mark; save it as CSV in UTF-8"
        )
    if first == "{":
        return _json_rows(path, text)
    if first == "[":
        return _json_array_rows(path, text)
    return _csv_rows(path, text)


def label_text(path: Source, content: bytes) -> str:
    """Returns the text of a label file.

    Raises:
        LabelFileError: it is neither UTF-8, nor UTF-16 with a byte order mark.
    """
    utf16 = content.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise LabelFileError(
            f"{path}: row {row}: expected UTF-8 text, found byte 0x{content[error.start]:02x} "
            f"({error.reason}); save the file as CSV in UTF-8"
        ) from error


def _csv_rows(path: Source, text: str) -> LabelRows:
    hint = _SEP_LINE.match(text)
    header = text[hint.end() :] if hint else text
    delimiter = _delimiter(header.lstrip().partition("\n")[0])
    if hint and hint[1] in _DELIMITERS:
        delimiter = hint[1]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    if hint:
        next(reader)  # so that rows keep their numbers
    columns: tuple[str, ...] = ()
    numbers: list[int] = []
    rows: list[list[str]] = []
    try:
        for line in reader:
            if not any(line):
                continue
            cells = [text_of_cell(cell) for cell in line]
            if not columns:
                columns = _without_empty_end([cell.strip() for cell in cells])
                continue
            numbers.append(reader.line_num)
            if len(cells) == len(columns):
                rows.append(cells)
            else:
                rows.append(_cut_to_columns(path, reader.line_num, cells, columns, delimiter))
    except csv.Error as error:
        raise LabelFileError(
            f"{path}: row {reader.line_num}: not CSV: {error}; correct the row"
        ) from error
    values = dict(zip(columns, zip(*rows, strict=True), strict=False))  # empty without rows
    return LabelRows(
        path=path,
        layout=_DELIMITERS[delimiter],
        columns=columns,
        numbers=numbers,
        column=lambda name: values.get(name, ()),
    )


def _without_empty_end(header: list[str]) -> tuple[str, ...]:
    """Returns a header without its last columns that Excel adds if their cells were once used."""
    while header and not header[-1]:
        header.pop()
    return tuple(header)


def _delimiter(header: str) -> str:
    """Returns the most frequent delimiter of a header; a comma if there is none."""
    unquoted = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=unquoted.count)


def _cut_to_columns(
    path: Source, line: int, cells: list[str], columns: tuple[str, ...], delimiter: str
) -> list[str]:
    """Returns a row cut to the number of columns; surplus cells must be empty."""
    if len(cells) < len(columns):
        missing = listed(columns[len(cells) :], 5)
        raise LabelFileError(
            f"{path}: row {line}: expected {len(columns)} cells, found {len(cells)}, "
            f"{shown(delimiter.join(cells))}; {missing} missing; add the missing values, "
            f"separated by {delimiter!r}"
        )
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise LabelFileError(
            f"{path}: row {line}: expected {len(columns)} cells, found {len(cells)}, "
            f"{shown(delimiter.join(cells))}; put double quotes around a cell that contains "
            f"{delimiter!r}"
        )
    return cells[: len(columns)]


def _json_rows(path: Source, text: str) -> LabelRows:
    numbers: list[int] = []
    rows: list[Any] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line, object_pairs_hook=_unique_keys))
        except (ValueError, RecursionError) as error:
            if line.strip() == "{" and (whole := _json_value(text)) is not None:
                raise LabelFileError(
                    f"{path}: one JSON object, with the keys {listed(list(whole), 5)}; expected "
                    "COCO's keys images, annotations and categories, or an object for each image, "
                    "each on a line of its own"
                ) from error
            raise LabelFileError(
                f"{path}: row {number}: not a JSON object on one line: {first_line(error)}; "
                "correct the row"
            ) from error
        numbers.append(number)
    return _object_rows(path, "JSON lines", rows, numbers)


def _json_array_rows(path: Source, text: str) -> LabelRows:
    try:
        rows = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise LabelFileError(
            f"{path}: row 1: a JSON array that cannot be read: {first_line(error)}; correct it"
        ) from error
    return _object_rows(path, "JSON array", rows, range(1, len(rows) + 1))


def _object_rows(
    path: Source, layout: str, rows: Sequence[Any], numbers: Sequence[int]
) -> LabelRows:
    for number, row in zip(numbers, rows, strict=True):
        if not isinstance(row, dict):
            raise LabelFileError(
                f"{path}: row {number}: expected a JSON object, found {shown(row)}"
            )
    return LabelRows(
        path=path,
        layout=layout,
        columns=tuple(dict.fromkeys(name for row in rows for name in row)),
        numbers=numbers,
        column=lambda name: [row.get(name) for row in rows],
    )


def _json_value(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {shown(twice)}")
    return row
