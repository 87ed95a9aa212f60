"""Detects the columns of image, labels, split and group in an unknown label file."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from canopy_search.filestore.user_files import real_path
from canopy_search.training.data.files.sources import Images, RemoteFolder
from canopy_search.training.data.images.decoding import is_image_name
from canopy_search.training.data.labels.label_file import GROUP_COLUMN, PART_WORDS, SPLIT_COLUMN
from canopy_search.training.data.labels.rows import LabelRows
from canopy_search.training.data.labels.targets import zero_or_one
from canopy_search.training.errors import LabelFileError
from canopy_search.training.settings import NAME_COLUMN, TAGS_COLUMN, ColumnSettings

_SAMPLE = 200

# Common column names, in lower case with underscores, most likely first.
_TAGS = (TAGS_COLUMN, "labels", "label", "tag", "classes", "class", "categories", "finding_labels")
_SPLITS = (SPLIT_COLUMN, "set", "subset", "partition", "fold", "dataset")
_GROUPS = (
    GROUP_COLUMN,
    "patient",
    "patient_id",
    "subject",
    "subject_id",
    "case",
    "case_id",
    "scene",
)


@dataclass(frozen=True)
class Guess:
    """The columns of a label file, detected or named by the user.

    Attributes:
        columns: of image and labels.
        split: the column of the user's own split, None if there is none.
        group: the column of groups, None if there is none.
    """

    columns: ColumnSettings
    split: str | None
    group: str | None


@dataclass(frozen=True)
class Given:
    """The columns named by the user; None for those to detect."""

    image: str | None = None
    tags: str | None = None
    split: str | None = None
    group: str | None = None


def guess_columns(rows: LabelRows, folder: Images, given: Given) -> Guess:
    """Detects the column whose values are files in the folder, then the other columns.

    Args:
        rows: the label file.
        folder: the folder of images, from `opened_images`.
        given: the columns named by the user.

    Raises:
        LabelFileError: there is no column of images or labels; the message lists the columns.
    """
    for name in (given.image, given.tags, given.split, given.group):
        if name is not None and name not in rows.columns:
            raise LabelFileError(
                f"{rows.path}: no column {name!r}; found {', '.join(rows.columns)}"
            )
    if not rows.numbers:
        raise LabelFileError(f"{rows.path}: no images below the header; add a row for every image")
    image = given.image or _image_column(rows, folder)
    split = given.split or next(
        (name for name in _named(rows, _SPLITS) if _all(rows, name, _is_part)), None
    )
    group = given.group or next(
        (name for name in _named(rows, _GROUPS) if _repeats(rows.column(name))), None
    )
    free = [name for name in rows.columns if name not in {image, split, group}]
    tags = given.tags or next((name for name in _named(rows, _TAGS) if name in free), None)
    if tags is not None:
        return Guess(ColumnSettings(image=image, tags=tags), split, group)
    one_hot = [
        name for name in free if _all(rows, name, lambda cell: zero_or_one(cell) is not None)
    ]
    if not one_hot:
        raise LabelFileError(
            f"{rows.path}: no column of tags and no columns of 0 and 1; found "
            f"{', '.join(rows.columns)}; name the column of tags with --tags-column"
        )
    labels = None if one_hot == free else tuple(one_hot)
    return Guess(ColumnSettings(image=image, labels=labels), split, group)


def _image_column(rows: LabelRows, folder: Images) -> str:
    """Returns the column with the most values that are files in the folder."""
    files = image_files(folder)
    known = {os.path.splitext(name)[0] for name in files} | set(files)  # noqa: PTH122
    if not rows.columns:
        raise LabelFileError(f"{rows.path}: no columns; expected image_name and tags in every row")
    found = {
        name: sum(_is_file(value, known) for value in rows.column(name)[:_SAMPLE])
        for name in rows.columns
    }
    best = max(found, key=lambda name: (found[name], name == NAME_COLUMN))
    if found[best]:
        return best
    example = next((str(value) for value in rows.column(rows.columns[0]) if value), "")
    raise LabelFileError(
        f"{rows.path}: no column names images below {_shown(folder)}, which has "
        f"{len(files):,} images{_example(files)}; the first column starts with {example!r}; "
        f"{_other_folder(rows, folder, files) or 'pass the folder that the names are relative to'}"
    )


def _other_folder(rows: LabelRows, folder: Images, files: Sequence[str]) -> str | None:
    """Returns a hint at a folder above or below that contains the names."""
    below = {key: Path(name).parent for name in files for key in (Path(name).name, Path(name).stem)}
    for name in rows.columns:
        for value in rows.column(name)[:_SAMPLE]:
            if not isinstance(value, str) or not value:
                continue
            if value in below:
                return f"try --images {_shown(folder)}/{below[value].as_posix()}"
            parents = list(real_path(folder).parents)[:3] if isinstance(folder, Path) else []
            for parent in parents:
                if _is_printable_file(parent, value):
                    return f"try --images {parent}"
    return None


def _is_printable_file(parent: Path, name: str) -> bool:
    """Whether there is such a file; False for names that no file can have."""
    is_plain = name.isprintable() and len(name) < 256 and not Path(name).is_absolute()
    return is_plain and (parent / name).is_file()


def _shown(folder: Images) -> str:
    return str(folder) if isinstance(folder, Path) else folder.url


def image_files(folder: Images) -> list[str]:
    """Returns the paths of all image files below a folder, relative to it; follows no links."""
    if isinstance(folder, RemoteFolder):
        return [file.path for file in folder.files_below() if is_image_name(file.path)]
    files = []
    for parent, _, names in os.walk(folder):
        inside = os.path.relpath(parent, folder)
        prefix = "" if inside == "." else f"{Path(inside).as_posix()}/"
        files += [prefix + name for name in filter(is_image_name, names)]
    return files


def _example(files: Sequence[str]) -> str:
    return f" such as {min(files)!r}" if files else ""


def _is_file(value: Any, known: set[str]) -> bool:
    text = str(value).strip() if isinstance(value, str | int) else ""
    return text in known or text.removeprefix("./") in known


def _named(rows: LabelRows, names: Sequence[str]) -> Iterable[str]:
    """Returns the columns that have one of these names, in the order of the names."""
    plain = {
        name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in rows.columns
    }
    return (plain[name] for name in names if name in plain)


def _all(rows: LabelRows, name: str, test: Any) -> bool:
    return all(test(value) for value in rows.column(name))


def _is_part(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in PART_WORDS


def _repeats(values: Sequence[Any]) -> bool:
    """Whether a value occurs more than once; a unique value per image is no group."""
    present = [str(value) for value in values if value is not None and value != ""]
    return len(set(present)) < len(present)
