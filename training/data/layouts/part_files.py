"""Several label files as one data set: one for each part of the split, or parts of a large one."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from canopy_search.training.data.labels.parts import PART_WORDS
from canopy_search.training.data.labels.rows import LabelRows
from canopy_search.training.data.layouts.parquet import parquet_files
from canopy_search.training.errors import LabelFileError, listed, shown
from canopy_search.training.settings import NAME_COLUMN, Part

_BESIDE_IMAGES = ("metadata.csv", "metadata.jsonl", "_annotations.coco.json")
_SUFFIXES = frozenset({".csv", ".tsv", ".json", ".jsonl"})
_OBJECTS = "instances"
_EDITION = re.compile(r"^oidv\d+-")  # before the names of some files of Open Images


def label_files(folder: Path) -> list[Path]:
    """Returns the label files that together describe the images of a folder.

    They are Parquet files; or ``train/metadata.csv`` and ``test/metadata.csv``; or files beside
    each other or in ``annotations``, whose names differ in the word for their part:
    ``instances_train2017.json`` and ``instances_val2017.json``.

    Args:
        folder: the folder.

    Raises:
        LabelFileError: there are several such sets of files.
    """
    if parquet := parquet_files(folder):
        return parquet
    parts = sorted(each for each in folder.iterdir() if each.name.lower() in PART_WORDS)
    in_parts = [each / name for each in parts for name in _BESIDE_IMAGES if (each / name).is_file()]
    if in_parts:
        return in_parts
    return _named_alike(folder) or _named_alike(folder / "annotations")


def _named_alike(folder: Path) -> list[Path]:
    """Returns the files whose names differ in the word for their part only."""
    alike: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.suffix.lower() in _SUFFIXES and _part(file) is not None:
            words = [word for word in _words(file) if word not in PART_WORDS]
            alike.setdefault(" ".join(words), []).append(file)
    sets = {words: files for words, files in alike.items() if len(_parts(files)) > 1}
    if len(sets) > 1 and _OBJECTS not in sets:
        examples = listed([files[0].name for files in sets.values()])
        raise LabelFileError(
            f"{folder}: several label files for the same part, {examples}; name one of them, or "
            "move the others away"
        )
    return sets.get(_OBJECTS) or next(iter(sets.values()), [])


def part_rows(path: Path, files: Sequence[Path], read: Callable[[Path], LabelRows]) -> LabelRows:
    """Reads several label files as one, with a column ``split`` if their names say their parts.

    Args:
        path: the folder, for messages.
        files: from `label_files`.
        read: reads one of them.

    Raises:
        LabelFileError: a file is damaged, their columns differ, or only some name a part.
    """
    each = [_below(path, file, read(file)) for file in files]
    columns = tuple(dict.fromkeys(name for rows in each for name in rows.columns))
    for rows in each:
        # The columns of Open Images are the labels that occur.
        if rows.columns != each[0].columns and rows.name != "open_images":
            raise LabelFileError(
                f"{rows.path}: expected the columns of {files[0].name}, "
                f"{listed(each[0].columns)}, found {listed(rows.columns)}; move one away, or name "
                "one of them"
            )
    parts = [_part(file) for file in files]
    without = [file.name for file, part in zip(files, parts, strict=True) if part is None]
    has_parts = len(_parts(files)) > 1 and "split" not in columns
    if has_parts and without:
        named = next(file.name for file in files if _part(file))
        raise LabelFileError(
            f"{path}: {named} names a part of the split, {shown(without[0])} does not; move the "
            "others away"
        )

    def column(name: str) -> Sequence[Any]:
        if has_parts and name == "split":
            pairs = zip(parts, each, strict=True)
            return [part for part, rows in pairs for _ in rows.numbers]
        return [cell for rows in each for cell in _cells(rows, name)]

    count = sum(len(rows.numbers) for rows in each)
    labels = [label for rows in each for label in rows.labels or ()]
    return replace(
        each[0],
        path=path,
        layout=f"{len(files)} files of {each[0].layout}" if len(files) > 1 else each[0].layout,
        columns=(*columns, "split") if has_parts else columns,
        numbers=range(1, count + 1),
        column=column,
        labels=tuple(dict.fromkeys(labels)) or None,
        name="parquet_folder" if files[0].suffix == ".parquet" else each[0].name,
        blank="ignore" if any(rows.blank == "ignore" for rows in each) else each[0].blank,
    )


def _below(folder: Path, file: Path, rows: LabelRows) -> LabelRows:
    """Returns rows whose names are relative to the folder if they are relative to the file."""
    if file.name not in _BESIDE_IMAGES:
        return rows
    inside = file.parent.relative_to(folder).as_posix()

    def column(name: str) -> Sequence[Any]:
        cells = rows.column(name)
        is_name = name in {NAME_COLUMN, "file_name"}
        return [f"{inside}/{cell}" for cell in cells] if is_name else cells

    return replace(rows, column=column)


def _cells(rows: LabelRows, name: str) -> Sequence[Any]:
    return rows.column(name) if name in rows.columns else [None] * len(rows.numbers)


def _parts(files: Sequence[Path]) -> set[Part]:
    return {part for file in files if (part := _part(file)) is not None}


def _part(file: Path) -> Part | None:
    """Returns the part that the name of a file, or of its folder, says."""
    name = file.parent.name.lower() if file.name in _BESIDE_IMAGES else None
    found = {PART_WORDS[word] for word in ([name] if name else _words(file)) if word in PART_WORDS}
    if found == {"train", "validation"}:
        return "train"
    return found.pop() if len(found) == 1 else None


def _words(file: Path) -> list[str]:
    return re.findall(r"[a-z]+", _EDITION.sub("", file.stem.lower()))
