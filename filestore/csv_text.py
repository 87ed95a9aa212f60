"""CSV that spreadsheets show as it is, without computing a cell that begins like a formula."""

import csv
import io
from collections.abc import Iterable
from datetime import datetime
from typing import Any

_LINE_END = "\r\n"
# Characters that start a formula in a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Returns rows as CSV; all CSV that Canopy writes comes from here.

    Args:
        rows: of numbers, times, and text; text that a spreadsheet would compute is prefixed with an
            apostrophe.
    """
    text = io.StringIO()
    # Only what its line terminator contains is quoted by the writer, and a cell may contain both.
    writer = csv.writer(text, lineterminator=_LINE_END)
    lines = []
    for row in rows:
        writer.writerow(map(_cell, row))
        lines.append(text.getvalue().removesuffix(_LINE_END))
        text.seek(0)
        text.truncate()
    return "".join(f"{line}\n" for line in lines)


def text_of_cell(cell: str) -> str:
    """Returns a text as it was before `csv_text` prefixed it."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
