"""Builds a 0/1 target matrix from tags in one column."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from canopy_search.training.data.labels.rows import LabelRows, is_empty
from canopy_search.training.data.labels.serialised import is_nothing, parsed_list
from canopy_search.training.data.labels.targets import Targets
from canopy_search.training.errors import LabelFileError, shown

Separator = Literal["auto", "space", ",", ";", "|"]

LABELS_AT_MOST = 10_000
"""Columns with more distinct tags are assumed to hold something else, such as sentences."""

_VECTOR = re.compile(r"[\[(]?\s*[01]\.?0*(?:[\s,;|]+[01]\.?0*)+\s*[\])]?")
_SEPARATORS = {"|": "vertical bars", ";": "semicolons", ",": "commas"}


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
    written = [_cell_text(rows, at, column, cell) for at, cell in enumerate(cells)]
    _check_no_vectors(rows, column, written)
    texts = _lists_parsed(rows, column, written)
    are_lists = any(isinstance(text, list) for text in texts) and not any(
        isinstance(text, str) and text for text in texts
    )
    mark, layout = _separator(rows, [text for text in texts if isinstance(text, str)], separator)
    tags = [frozenset(_tags(text, mark)) for text in texts]
    labels = tuple(sorted(frozenset().union(*tags)))
    if len(labels) > LABELS_AT_MOST:
        raise LabelFileError(
            f"{rows.path}: column {shown(column)}: {len(labels):,} different tags, more than "
            f"{LABELS_AT_MOST:,}; is it the column of tags? name the right one in data.columns.tags"
        )
    _check_labels(rows, tags, labels)
    position = {label: at for at, label in enumerate(labels)}
    matrix = np.zeros((len(tags), len(labels)), np.uint8)
    for at, row in enumerate(tags):
        matrix[at, [position[tag] for tag in row]] = 1
    return Targets("tags in lists" if are_lists else layout, labels, matrix)


def _cell_text(rows: LabelRows, at: int, column: str, cell: Any) -> str | list[str]:
    if is_empty(cell):
        return ""
    if isinstance(cell, list):
        texts = [text for tag in cell if (text := _tag_text(tag)) is not None]
        if len(texts) == len(cell):
            return texts
    elif (text := _tag_text(cell)) is not None:
        return "" if is_nothing(text) else text
    raise rows.error(
        at,
        f"column {shown(column)}: expected tags, found {shown(cell)}; write them as text or a list",
    )


def _tag_text(tag: Any) -> str | None:
    """Returns a tag as text, also a number, which is 3.0 in a column of pandas with empty cells."""
    if isinstance(tag, float) and tag.is_integer():
        tag = int(tag)
    return str(tag) if isinstance(tag, str | int) else None


def _check_no_vectors(rows: LabelRows, column: str, texts: Sequence[str | list[str]]) -> None:
    """Raises if every cell has a 0 or 1 for each label; as tags they would be two labels."""
    cells = [text if isinstance(text, str) else " ".join(text) for text in texts]
    filled = {at: cell for at, cell in enumerate(cells) if cell.strip()}
    lengths = {
        len(re.findall("[01]", cell)) if _VECTOR.fullmatch(cell) else 0 for cell in filled.values()
    }
    if len(lengths) == 1 and lengths != {0}:
        at = min(filled)
        raise rows.error(
            at,
            f"column {shown(column)}: {shown(cells[at])} is a 0 or 1 for each label, not a list of "
            "tags; write a column for each label, with its name in the header",
        )


def _lists_parsed(
    rows: LabelRows, column: str, texts: Sequence[str | list[str]]
) -> Sequence[str | list[str]]:
    """Returns the cells with lists that were written as text as lists again.

    Raises:
        LabelFileError: some cells are such lists and others are plain text, or a list cannot be
            read; splitting it as text would make brackets and quotes part of the labels.
    """
    parsed: list[str | list[str]] = []
    plain = None
    for at, text in enumerate(texts):
        try:
            elements = parsed_list(text) if isinstance(text, str) else None
        except ValueError as error:
            raise rows.error(
                at,
                f"column {shown(column)}: {error}, {shown(text)}; write the tags as text or a list",
            ) from error
        if elements is None and isinstance(text, str) and text.strip():
            plain = at if plain is None else plain
        parsed.append(text if elements is None else elements)
    first = next((at for at, text in enumerate(parsed) if text is not texts[at]), None)
    if first is not None and plain is not None:
        raise rows.error(
            first,
            f"column {shown(column)}: a list, {shown(texts[first])}, but row {rows.numbers[plain]} "
            f"is plain text, {shown(texts[plain])}; write all of them in the same way",
        )
    return parsed


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
                at, f"the tag {shown(label)} contains control characters; remove them from the file"
            )
