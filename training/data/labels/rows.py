"""Label files as plain columns: CSV, JSON lines or Parquet, recognised by their content."""

import csv
import io
import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from canopy_search.filestore.csv_text import text_of_cell
from canopy_search.filestore.retry import Retrier
from canopy_search.filestore.urls import Source
from canopy_search.training.data.files.sources import read_source, reported
from canopy_search.training.errors import LabelFileError

_PARQUET = b"PAR1"
_NO_LABEL_FILE = {
    b"PK\x03\x04": "a zip or Excel file; save the table as CSV in UTF-8",
    b"\x1f\x8b": "a gzip file; unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the table as CSV in UTF-8",
    b"\x89PNG": "a PNG image; set data.labels to the label file, data.images to the images",
    b"\xff\xd8\xff": "a JPEG image; set data.labels to the label file, data.images to the images",
    b"%PDF": "a PDF; save the table as CSV in UTF-8",
}
_DELIMITERS = {",": "CSV", ";": "CSV with semicolons", "\t": "tab-separated"}


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
    """

    path: Source
    layout: str
    columns: tuple[str, ...]
    numbers: Sequence[int]
    column: Callable[[str], Sequence[Any]]

    def error(self, row: int, message: str) -> LabelFileError:
        """Returns an error about the row at position `row`."""
        return LabelFileError(f"{self.path}: row {self.numbers[row]}: {message}")


def read_rows(path: Source, retrier: Retrier | None = None) -> LabelRows:
    """Reads a label file.

    Args:
        path: CSV (or with semicolons or tabs) in UTF-8, or in UTF-16 with a byte order mark; JSON
            lines, one object per line; or Parquet.
        retrier: how long to wait for an unavailable file store; by default some minutes.

    Raises:
        LabelFileError: the file is missing, empty, damaged or not a label file; with the row.
    """
    try:
        with reported(LabelFileError):
            content = read_source(path, retrier)
    except FileNotFoundError:
        raise LabelFileError(f"{path}: no such label file; check data.labels") from None
    except OSError as error:
        raise LabelFileError(
            f"{path}: cannot be read: {error.strerror}; check data.labels"
        ) from error
    for beginning, what in _NO_LABEL_FILE.items():
        if content.startswith(beginning):
            raise LabelFileError(f"{path}: this is {what}")
    rows = (
        _parquet_rows(path, content) if content.startswith(_PARQUET) else _text_rows(path, content)
    )
    twice = {name for name in rows.columns if rows.columns.count(name) > 1}
    if twice:
        raise LabelFileError(
            f"{path}: row 1: duplicate column {min(twice)!r}; rename or remove one"
        )
    return rows


def _text_rows(path: Source, content: bytes) -> LabelRows:
    text = _decoded(path, content)
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
        raise LabelFileError(
            f"{path}: row 1: a JSON array; expected JSON lines, one line with an object for each "
            "image"
        )
    return _csv_rows(path, text)


def _decoded(path: Source, content: bytes) -> str:
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
    delimiter = _delimiter(text.lstrip().partition("\n")[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: tuple[str, ...] = ()
    numbers: list[int] = []
    rows: list[list[str]] = []
    try:
        for line in reader:
            if not any(line):
                continue
            cells = [text_of_cell(cell) for cell in line]
            if not columns:
                columns = tuple(cell.strip() for cell in cells)
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
    values = list(zip(*rows, strict=True)) or [() for _ in columns]
    return LabelRows(
        path=path,
        layout=_DELIMITERS[delimiter],
        columns=columns,
        numbers=numbers,
        column=lambda name: values[columns.index(name)],
    )


def _delimiter(header: str) -> str:
    """Returns the most frequent delimiter of a header; a comma if there is none."""
    unquoted = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=unquoted.count)


def _cut_to_columns(
    path: Source, line: int, cells: list[str], columns: tuple[str, ...], delimiter: str
) -> list[str]:
    """Returns a row cut to the number of columns; surplus cells must be empty."""
    if len(cells) < len(columns):
        missing = ", ".join(columns[len(cells) :][:5])
        raise LabelFileError(
            f"{path}: row {line}: expected {len(columns)} cells, found {len(cells)}, "
            f"{delimiter.join(cells)[:80]!r}; {missing} missing; add the missing values, "
            f"separated by {delimiter!r}"
        )
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise LabelFileError(
            f"{path}: row {line}: expected {len(columns)} cells, found {len(cells)}, "
            f"{delimiter.join(cells)[:80]!r}; put double quotes around a cell that contains "
            f"{delimiter!r}"
        )
    return cells[: len(columns)]


def _json_rows(path: Source, text: str) -> LabelRows:
    numbers: list[int] = []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            raise LabelFileError(
                f"{path}: row {number}: not a JSON object on one line: {error}; correct the row"
            ) from error
        if not isinstance(row, dict):
            raise LabelFileError(
                f"{path}: row {number}: expected a JSON object, found {line.strip()[:80]!r}"
            )
        numbers.append(number)
        rows.append(row)
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return LabelRows(
        path=path,
        layout="JSON lines",
        columns=columns,
        numbers=numbers,
        column=lambda name: [row.get(name) for row in rows],
    )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {twice!r}")
    return row


def _parquet_rows(path: Source, content: bytes) -> LabelRows:
    # Imported here, because it is slow and only needed for Parquet.
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        columns = tuple(file.schema_arrow.names)
        count = file.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LabelFileError(_damaged_parquet(path, error)) from error

    def column(name: str) -> list[Any]:
        # One at a time, because the file may also contain the images themselves.
        try:
            values: list[Any] = file.read(columns=[name]).column(name).to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise LabelFileError(_damaged_parquet(path, error)) from error
        return values

    return LabelRows(path, "Parquet", columns, range(1, count + 1), column)


def _damaged_parquet(path: Source, error: Exception) -> str:
    reason = str(error).partition("\n")[0]
    return f"{path}: a damaged Parquet file ({reason}); write it again"
