"""Which columns of an unknown label file are the image, its labels, its split and its group."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from canopy_search.training.data.files.sources import Images, RemoteFolder
from canopy_search.training.data.images.decoding import is_image_name
from canopy_search.training.data.labels.label_file import GROUP_COLUMN, PART_WORDS, SPLIT_COLUMN
from canopy_search.training.data.labels.rows import LabelRows
from canopy_search.training.data.labels.targets import zero_or_one
from canopy_search.training.errors import LabelFileError
from canopy_search.training.settings import NAME_COLUMN, TAGS_COLUMN, ColumnSettings

_SAMPLE = 200

# Names as people give them, in lower case with underscores, the likeliest first.
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
    """The columns, and which of them had to be guessed.

    Attributes:
        columns: of image and labels.
        split: the user's own split, None if there is none.
        group: what stays together, None if there is none.
    """

    columns: ColumnSettings
    split: str | None
    group: str | None


@dataclass(frozen=True)
class Given:
    """The columns that the user names; None is for those to be guessed."""

    image: str | None = None
    tags: str | None = None
    split: str | None = None
    group: str | None = None


def guess_columns(rows: LabelRows, folder: Images, given: Given) -> Guess:
    """Finds the column whose values are files of the folder, and from there the others.

    Args:
        rows: the label file.
        folder: the folder of images, as `opened_images` opens it.
        given: what the user knows better.

    Raises:
        LabelFileError: there is no column of images or labels; the message says what is there.
    """
    for name in (given.image, given.tags, given.split, given.group):
        if name is not None and name not in rows.columns:
            raise LabelFileError(
                f"{rows.path}: no column {name!r}; there are {', '.join(rows.columns)}"
            )
    if not rows.numbers:
        raise LabelFileError(f"{rows.path}: no images below the header; add a row for every image")
    image = given.image or _image_column(rows, folder)
    split = given.split or _first(
        (name for name in _called(rows, _SPLITS) if _all(rows, name, _is_part)), None
    )
    group = given.group or _first(
        (name for name in _called(rows, _GROUPS) if _repeats(rows.column(name))), None
    )
    free = [name for name in rows.columns if name not in {image, split, group}]
    tags = given.tags or _first((name for name in _called(rows, _TAGS) if name in free), None)
    if tags is not None:
        return Guess(ColumnSettings(image=image, tags=tags), split, group)
    one_hot = [name for name in free if _all(rows, name, lambda c: zero_or_one(c) is not None)]
    if not one_hot:
        raise LabelFileError(
            f"{rows.path}: no column of tags and none of 0 and 1; there are "
            f"{', '.join(rows.columns)}; name the column of tags with --tags-column"
        )
    labels = None if one_hot == free else tuple(one_hot)
    return Guess(ColumnSettings(image=image, labels=labels), split, group)


def _image_column(rows: LabelRows, folder: Images) -> str:
    """The column with the most values that are files of the folder."""
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
        f"{rows.path}: no column names images below {_shown(folder)}, which holds "
        f"{len(files):,} images{_example(files)}; the first column begins with {example!r}; "
        f"{_elsewhere(rows, folder, files) or 'name the folder that the names are relative to'}"
    )


def _elsewhere(rows: LabelRows, folder: Images, files: Sequence[str]) -> str | None:
    """A folder above or below that the names do lie in."""
    below = {key: Path(name).parent for name in files for key in (Path(name).name, Path(name).stem)}
    for name in rows.columns:
        for value in rows.column(name)[:_SAMPLE]:
            if not isinstance(value, str) or not value:
                continue
            if value in below:
                return f"try --images {_shown(folder)}/{below[value].as_posix()}"
            parents = list(folder.resolve().parents)[:3] if isinstance(folder, Path) else []
            for parent in parents:
                if _is_printable_file(parent, value):
                    return f"try --images {parent}"
    return None


def _is_printable_file(parent: Path, name: str) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
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


def _called(rows: LabelRows, names: Sequence[str]) -> Iterable[str]:
    """The columns that are called one of these names, in the order of the names."""
    plain = {
        name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in rows.columns
    }
    return (plain[name] for name in names if name in plain)


def _all(rows: LabelRows, name: str, test: Any) -> bool:
    return all(test(value) for value in rows.column(name))


def _is_part(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in PART_WORDS


def _repeats(values: Sequence[Any]) -> bool:
    """Whether there are groups at all: a value for each image is no group."""
    named = [str(value) for value in values if value is not None and value != ""]
    return len(set(named)) < len(named)


def _first(names: Iterable[str], default: None) -> str | None:
    return next(iter(names), default)
