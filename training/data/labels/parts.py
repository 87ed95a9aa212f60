"""Which part of the split each image is in, by a column of the label file or by lists of names."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from canopy_search.filestore.retry import Retrier
from canopy_search.filestore.urls import Source
from canopy_search.training.data.labels.names import NameIndex
from canopy_search.training.data.labels.rows import LabelRows, label_content, label_text
from canopy_search.training.errors import LabelFileError, listed, shown
from canopy_search.training.settings import Part

PART_WORDS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "train_val": "train",
    "train-val": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}

Values = dict[Part, tuple[str | int | bool, ...]]

_TRUE, _FALSE = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no"})
_VALIDATION_COLUMNS = ("is_valid", "is_val", "is_validation")
_FLAG_COLUMNS = (*_VALIDATION_COLUMNS, "is_test", "is_train")
_SPLIT_COLUMNS = (
    "split", "splits", "set", "subset", "partition", "partitions", "fold", "folds", "kfold",
    "data_split", "usage", "phase", *_FLAG_COLUMNS,
)  # fmt: skip
_LISTS: dict[str, Part] = {
    "train_list.txt": "train",
    "train_val_list.txt": "train",
    "val_list.txt": "validation",
    "test_list.txt": "test",
}
_CELEBA: Values = {"train": (0,), "validation": (1,), "test": (2,)}
_MOST_VALUES = 20


def column_parts(rows: LabelRows, column: str, values: Values | None) -> tuple[Part, ...]:
    """Returns the part of each row.

    Args:
        rows: the label file.
        column: of the user's own split.
        values: part → the column's values for it; None for words such as train and val.

    Raises:
        LabelFileError: a cell has another value; with the row.
    """
    words = _words(values)
    parts = []
    for at, value in enumerate(rows.column(column)):
        part = words.get(part_word(value))
        if part is None:
            expected = "train, validation or test" if values is None else listed(list(words))
            raise rows.error(
                at,
                f"column {shown(column)}: expected {expected}, found {shown(value)}; correct it, "
                "name the part of every value in data.split.values, or set data.split.column to "
                "null to split at random",
            )
        parts.append(part)
    return tuple(parts)


def listed_parts(
    names: Sequence[str], lists: Mapping[Part, Source], path: Source, retrier: Retrier | None
) -> tuple[Part, ...]:
    """Returns the part of each image by lists of names.

    Args:
        names: of all images.
        lists: part → a text file with the name of an image in each line. Without a list for train,
            the images in no list are for training.
        path: the label file, for messages.
        retrier: how long to wait for an unavailable file store.

    Raises:
        LabelFileError: a list cannot be read, names an image that the label file does not, two
            lists name the same image, or no list names an image.
    """
    index = NameIndex(names)
    part_of: dict[str, Part] = {}
    for part, source in lists.items():
        wanted = [line.strip() for line in _lines(source, retrier)]
        unknown = [name for name in wanted if not index.find(name)]
        if unknown:
            raise LabelFileError(
                f"{source}: {len(unknown):,} of {len(wanted):,} images are not in {path}, such as "
                f"{shown(unknown[0])}; correct the list, or split at random "
                "(canopy init: --split-column none)"
            )
        for name in wanted:
            for found in index.find(name):
                if part_of.setdefault(found, part) != part:
                    raise LabelFileError(
                        f"{source}: {shown(name)} is in the list for {part} and in the one for "
                        f"{part_of[found]}; remove it from one of them"
                    )
    left = [name for name in names if name not in part_of]
    if left and "train" in lists:
        raise LabelFileError(
            f"{path}: {len(left):,} of {len(names):,} images are in no list of data.split, such as "
            f"{shown(left[0])}; add them to a list, or remove their rows"
        )
    return tuple(part_of.get(name, "train") for name in names)


def lists_beside(labels: Path) -> dict[Part, Path]:
    """Returns part → the list of its images beside a label file, as published with ChestX-ray14.

    Args:
        labels: the label file.
    """
    found: dict[Part, Path] = {}
    for name, part in _LISTS.items() if labels.is_file() else ():
        if (labels.parent / name).is_file():
            found.setdefault(part, labels.parent / name)
    return found if len(found) > 1 else {}


def guessed_column(
    rows: LabelRows, taken: Iterable[str | None], named: str | None, values: Values | None
) -> tuple[str | None, Values | None]:
    """Recognises the column of the user's own split.

    Args:
        rows: the label file.
        taken: columns that hold something else.
        named: the column, if the user named it.
        values: part → values, if the user named them.

    Returns:
        The column, None if no column looks like a split; and part → values if they are not words
        such as train and val.

    Raises:
        LabelFileError: a column looks like a split, but its values do not tell the parts.
    """
    free = [name for name in rows.columns if name not in set(taken)]
    by_name = {_plain(name): name for name in free}
    usual = [by_name[name] for name in _SPLIT_COLUMNS if name in by_name]
    if named is not None:
        free = usual = [named]
    for name in [*usual, *(name for name in free if name not in usual)]:
        present = sorted({part_word(value) for value in rows.column(name)})
        if known := _known_values(_plain(name), present, values, is_usual=name in usual):
            return name, known[0]
        if _looks_like_split(present, len(rows.numbers), is_usual=name in usual):
            raise LabelFileError(_question(rows, name, present))
    return named, values


def part_word(value: Any) -> str:
    """Returns the value of a split's cell as it is compared: in lower case, numbers without .0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None else str(value).strip().lower()
    return text.removesuffix(".0")


def _words(values: Values | None) -> dict[str, Part]:
    if values is None:
        return PART_WORDS
    return {part_word(value): part for part, named in values.items() for value in named}


def _known_values(
    name: str, present: Sequence[str], values: Values | None, *, is_usual: bool
) -> tuple[Values | None] | None:
    """Returns the values of the parts in a tuple, or None if they are not known."""
    if values is not None:
        return (values,) if is_usual and set(present) <= set(_words(values)) else None
    if set(present) <= set(PART_WORDS) and (is_usual or len(present) > 1):
        return (None,)
    if name in _VALIDATION_COLUMNS and len(present) == 2 and set(present) <= _TRUE | _FALSE:
        yes = tuple(word for word in present if word in _TRUE)
        return ({"train": tuple(set(present) - set(yes)), "validation": yes},)
    if is_usual and name not in _FLAG_COLUMNS and present == ["0", "1", "2"]:
        return (_CELEBA,)
    return None


def _looks_like_split(present: Sequence[str], rows: int, *, is_usual: bool) -> bool:
    if not is_usual:
        words = [word for word in present if word]
        return len(set(words) & set(PART_WORDS)) > 1 and len(words) <= _MOST_VALUES
    return 1 < len(present) <= min(_MOST_VALUES, max(2, rows // 2))  # not one for each image


def _question(rows: LabelRows, name: str, present: Sequence[str]) -> str:
    words = [word or "(empty)" for word in present]
    if not all(present) and {word for word in present if word} <= set(PART_WORDS):
        at = next(at for at, value in enumerate(rows.column(name)) if not part_word(value))
        return (
            f"{rows.path}: row {rows.numbers[at]}: column {shown(name)}: expected train, "
            "validation or test, found an empty cell; correct it, or split at random with "
            "--split-column none"
        )
    return (
        f"{rows.path}: the column {shown(name)} looks like a split, but its values "
        f"{listed(words)} do not say which images are for training; name the values of every part, "
        "such as --split-values train=0,1,2 --split-values test=3, or split at random with "
        "--split-column none"
    )


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _lines(source: Source, retrier: Retrier | None) -> list[str]:
    """Returns the lines of a list that are not empty."""
    text = label_text(source, label_content(source, retrier))
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise LabelFileError(f"{source}: the list is empty; expected an image's name in each line")
    return lines
