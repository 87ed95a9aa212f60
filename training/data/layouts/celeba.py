"""CelebA: a table of attributes, 1 or -1, and a second file with the part of every image."""

import csv
import io
from collections.abc import Callable, Sequence

from canopy_search.filestore.urls import Source
from canopy_search.training.data.labels.rows import LabelRows, label_text
from canopy_search.training.errors import LabelFileError, shown
from canopy_search.training.settings import NAME_COLUMN

_PARTS = {"0": "train", "1": "validation", "2": "test"}
_ABSENT_AND_PRESENT = {"-1": "0", "1": "1"}
_PARTITION = "list_eval_partition"

Beside = Callable[[str], bytes | None]
"""Name → content of another file of the same folder, None if there is none."""


def celeba_rows(path: Source, content: bytes, beside: Beside) -> LabelRows | None:
    """Reads ``list_attr_celeba``, the published text or its copy as CSV with the partition beside.

    Args:
        path: the file, for messages.
        content: of the file.
        beside: finds ``list_eval_partition``.

    Returns:
        None if the file has another layout.

    Raises:
        LabelFileError: a row is malformed, or an image has no part.

    References:
        https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html
    """
    first = content[:4096].partition(b"\n")[0].strip()
    if first.isdigit():
        found = _text_table(path, label_text(path, content))
        partition = beside(f"{_PARTITION}.txt")
    elif first.lower().startswith(b"image_id,"):
        partition = beside(f"{_PARTITION}.csv")
        if partition is None:
            return None
        lines = list(csv.reader(io.StringIO(label_text(path, content))))
        found = lines[0][1:], lines[1:]
    else:
        return None
    return None if found is None else _rows(path, found, partition)


def _text_table(path: Source, text: str) -> tuple[list[str], list[list[str]]] | None:
    """Returns attributes and rows, None unless the first line counts the rows below the header."""
    lines = text.splitlines()
    cells = [line.split() for line in lines[2:] if line.strip()]
    if not cells or len(cells[0]) != len(lines[1].split()) + 1:
        return None
    if len(cells) != int(lines[0]):
        raise LabelFileError(
            f"{path}: row 1: says {int(lines[0]):,} images, found {len(cells):,}; the file is "
            "incomplete, download it again"
        )
    return lines[1].split(), cells


def _rows(
    path: Source, found: tuple[list[str], list[list[str]]], partition: bytes | None
) -> LabelRows:
    attributes, cells = found
    first = 3 if isinstance(path, str) or path.suffix == ".txt" else 2
    for number, row in enumerate(cells, start=first):
        wrong = [cell for cell in row[1:] if cell.strip() not in _ABSENT_AND_PRESENT]
        if wrong or len(row) != len(attributes) + 1:
            raise LabelFileError(
                f"{path}: row {number}: expected {len(attributes)} values 1 or -1, found "
                f"{shown(wrong[0] if wrong else ' '.join(row))}; correct it"
            )
    columns = {NAME_COLUMN: [row[0] for row in cells]}
    if partition is not None:
        columns["split"] = _parts(path, columns[NAME_COLUMN], label_text(path, partition))
    for at, attribute in enumerate(attributes, start=1):
        columns[attribute] = [_ABSENT_AND_PRESENT[row[at].strip()] for row in cells]
    return LabelRows(
        path=path,
        layout="CelebA, -1 is absent",
        columns=tuple(columns),
        numbers=range(first, first + len(cells)),
        column=columns.__getitem__,
        name="celeba",
        labels=tuple(attributes),
    )


def _parts(path: Source, names: Sequence[str], text: str) -> list[str]:
    part_of = dict(line.replace(",", " ").split()[:2] for line in text.splitlines() if line.strip())
    without = [name for name in names if part_of.get(name) not in _PARTS]
    if without:
        raise LabelFileError(
            f"{path}: {len(without):,} images have no part 0, 1 or 2 in {_PARTITION}, such as "
            f"{shown(without[0])}; complete that file, or move it away to split at random"
        )
    return [_PARTS[part_of[name]] for name in names]
