"""Detects the columns of image, labels, split and group in an unknown label file."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from canopy_search.filestore.user_files import real_path
from canopy_search.training.data.files.sources import Images
from canopy_search.training.data.labels.label_file import GROUP_COLUMN, SPLIT_COLUMN, LabelTable
from canopy_search.training.data.labels.locating import shown_folder
from canopy_search.training.data.labels.names import NameIndex, absent_folders, images_below
from canopy_search.training.data.labels.parts import Values, guessed_column
from canopy_search.training.data.labels.rows import LabelRows
from canopy_search.training.data.labels.targets import cell_value
from canopy_search.training.errors import LabelFileError, listed, shown
from canopy_search.training.settings import (
    NAME_COLUMN,
    TAGS_COLUMN,
    ColumnSettings,
    LayoutName,
    SplitSettings,
)

NO_COLUMN = "none"
"""What the user names instead of a column to use none."""

_SAMPLE = 2000
_SAMPLE_OF_MANY_COLUMNS = 200
_MANY_COLUMNS = 50

# Common column names, in lower case with underscores, most likely first.
_TAGS = (TAGS_COLUMN, "labels", "label", "tag", "classes", "class", "categories", "finding_labels")
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
_NO_LABEL = frozenset({"no finding", "no findings", "nofinding", "none", "no label", "nothing"})


@dataclass(frozen=True)
class Guess:
    """How to read a label file, detected or named by the user: settings of `data`.

    Attributes:
        layout: of the file.
        columns: of image and labels, and what their cells mean.
        split: the user's own split and groups, if there are any.
        none: the word that means no label.
    """

    layout: LayoutName
    columns: ColumnSettings
    split: SplitSettings
    none: str | None = None


@dataclass(frozen=True)
class Given:
    """What the user named; None and empty for what to detect.

    Attributes:
        image: the column of image names.
        tags: the column of tags, or `NO_COLUMN`.
        split: the column of the split, or `NO_COLUMN`.
        group: the column of groups, or `NO_COLUMN`.
        values: part → values of the split column.
        ignored: columns that are no labels.
    """

    image: str | None = None
    tags: str | None = None
    split: str | None = None
    group: str | None = None
    values: Values | None = None
    ignored: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Every named column."""
        named = [self.image, self.tags, self.split, self.group]
        return [name for name in named if name not in {None, NO_COLUMN}] + list(self.ignored)


def guess_columns(
    rows: LabelRows, folder: Images, given: Given, *, follow_links: bool = False
) -> Guess:
    """Detects the column whose values are files in the folder, then the other columns.

    Args:
        rows: the label file.
        folder: the folder of images, from `opened_images`.
        given: the columns named by the user.
        follow_links: whether symbolic links may point outside the folder.

    Raises:
        LabelFileError: there is no column of images or labels, or a column fits most rows and not
            all of them; the message names the row or lists the columns.
    """
    for name in given.columns:
        if name not in rows.columns:
            raise LabelFileError(
                f"{rows.path}: no column {shown(name)}; found {listed(rows.columns, 50)}"
            )
    if not rows.numbers:
        raise LabelFileError(f"{rows.path}: no images below the header; add a row for every image")
    image = given.image or _image_column(rows, folder, follow_links=follow_links)
    group = given.group or next(
        (name for name in _named(rows, _GROUPS) if _is_group(rows.column(name))), None
    )
    group = None if group == NO_COLUMN else group
    taken = {image, group, given.tags, *given.ignored}
    split, values = None, None
    if given.split != NO_COLUMN:
        not_split = {*taken, *(rows.labels or ())}
        split, values = guessed_column(rows, not_split, given.split, given.values)
    taken |= {split, given.split}
    tags = given.tags or _tags_column(rows, taken)
    tags = None if tags == NO_COLUMN else tags
    settings = SplitSettings(column=split, group=group, values=values)
    if tags is not None:
        return Guess(rows.name, ColumnSettings(image=image, tags=tags), settings)
    free = [name for name in rows.labels or rows.columns if name not in taken]
    columns = _label_columns(rows, free)
    not_labels = {image, split, group, SPLIT_COLUMN, GROUP_COLUMN}
    others = tuple(name for name in rows.columns if name not in not_labels)
    if columns.labels == others and TAGS_COLUMN not in others:
        columns = columns.model_copy(update={"labels": None})  # as without this setting
    return Guess(rows.name, columns.model_copy(update={"image": image}), settings)


def _tags_column(rows: LabelRows, taken: Container[str | None]) -> str | None:
    """Returns the column with a usual name for tags.

    Raises:
        LabelFileError: it has 0 and 1 as other columns have, and so may be a label itself.
    """
    found = next((name for name in _named(rows, _TAGS) if name not in taken), None)
    if found is None or not _is_binary(rows.column(found)):
        return found
    others = [
        name
        for name in rows.columns
        if name != found and name not in taken and _is_binary(rows.column(name))
    ]
    if others:
        raise LabelFileError(
            f"{rows.path}: the column {shown(found)} has 0 and 1, as {listed(others)}; is it the "
            f"only label, --tags-column {found}, or a label like them, --tags-column {NO_COLUMN}?"
        )
    return found


def none_word(table: LabelTable) -> str | None:
    """Returns the label that says that an image has none, such as ``No Finding``.

    Args:
        table: the labels. A word that more images have beside another label than alone is no such
            word.
    """
    for at, label in enumerate(table.labels):
        if label.strip().casefold().replace("_", " ") in _NO_LABEL:
            counts = (table.targets == 1).sum(axis=1)[table.targets[:, at] == 1]
            if 2 * (counts > 1).sum() < len(counts):
                return label
    return None


@dataclass(frozen=True)
class _Cells:
    """The cells of a column that may be a label.

    Attributes:
        values: those that occur: 0, 1, -1, and None for an empty cell.
        between: number of rows with a number from 0 to 1, such as a probability, or -1.
        misfit: the first row with something else, None if there is none.
    """

    values: frozenset[int | None]
    between: int
    misfit: int | None


def _label_columns(rows: LabelRows, free: Sequence[str]) -> ColumnSettings:
    """Returns the columns of 0 and 1, and what their other cells mean."""
    cells = {name: _cells(rows.column(name)) for name in free}
    for name, found in cells.items():
        if found.misfit is not None and 2 * found.between > len(rows.numbers):
            raise rows.error(
                found.misfit,
                f"column {shown(name)}: found {shown(rows.column(name)[found.misfit])}, but "
                f"{found.between:,} of {len(rows.numbers):,} rows are from 0 to 1, or -1, as in a "
                "column of labels; correct it, or leave the column out with --ignore-column",
            )
    labels = [name for name, found in cells.items() if found.misfit is None and found.between]
    if not labels:
        raise LabelFileError(
            f"{rows.path}: no column of tags and no columns of 0 and 1; found "
            f"{listed(rows.columns, 50)}; name the column of tags with --tags-column, or write 0 "
            "and 1 in a column for each label"
        )
    present = [cells[name].values for name in labels]
    is_signed = not any({0, None} & values for values in present)
    uncertain: Literal["zero", "ignore"] = "zero" if is_signed else "ignore"
    with_blanks = [values for values in present if None in values]
    blank = rows.blank or ("ignore" if all(0 in values for values in with_blanks) else "zero")
    return ColumnSettings(
        labels=tuple(labels),
        uncertain=uncertain if any(-1 in values for values in present) else None,
        blank=blank if with_blanks else None,
    )


def _cells(column: Sequence[Any]) -> _Cells:
    values: set[int | None] = set()
    between, misfit = 0, None
    for at, cell in enumerate(column):
        try:
            value = cell_value(cell)
        except ValueError:
            misfit = at if misfit is None else misfit
            between += _is_probability(cell)
            continue
        values.add(value)
        between += value is not None
    return _Cells(frozenset(values), between, misfit)


def _is_probability(cell: Any) -> bool:
    try:
        return 0 < float(cell) < 1
    except (TypeError, ValueError):
        return False


def _image_column(rows: LabelRows, folder: Images, *, follow_links: bool) -> str:
    """Returns the column that names the most files in the folder, each counted once."""
    below = images_below(folder, follow_links=follow_links)
    files = below.files
    index = NameIndex(files)
    if not rows.columns:
        raise LabelFileError(f"{rows.path}: no columns; expected image_name and tags in every row")
    texts = {name: _names(rows, name) for name in rows.columns if name not in (rows.labels or ())}
    found = {name: _found(index, names) for name, names in texts.items()}
    best = max(found, key=lambda name: (found[name], name == NAME_COLUMN, len(set(texts[name]))))
    if found[best]:
        return best
    example = next((value for value in rows.column(rows.columns[0]) if value), "")
    others = f" such as {shown(min(files))}" if files else ""
    raise LabelFileError(
        f"{rows.path}: no column names images below {shown_folder(folder)}, which has "
        f"{len(files):,} images{others}; the first column starts with {shown(str(example))}; "
        f"{below.hint or _folder_above(rows, folder) or 'pass the folder of these names'}"
    )


def _found(index: NameIndex, names: Sequence[str]) -> int:
    """Returns how many names mean a file, each counted once."""
    absent = absent_folders(names, index)
    return sum(bool(index.find(name.removeprefix(absent))) for name in set(names))


def _names(rows: LabelRows, column: str) -> list[str]:
    """Returns cells from everywhere in a column that can be names."""
    cells = rows.column(column)
    sample = _SAMPLE_OF_MANY_COLUMNS if len(rows.columns) > _MANY_COLUMNS else _SAMPLE
    some = cells[:: -(-len(cells) // sample)]
    return [str(cell) for cell in some if isinstance(cell, str | int) and str(cell).strip()]


def _folder_above(rows: LabelRows, folder: Images) -> str | None:
    """Returns a hint at the folder above this one that has the most files with these names."""
    if not isinstance(folder, Path):
        return None
    counts = {
        (parent, name): sum(_is_printable_file(parent, text) for text in names)
        for name in rows.columns
        for names in [_names(rows, name)[:_SAMPLE_OF_MANY_COLUMNS]]
        for parent in list(real_path(folder).parents)[:3]
    }
    (parent, name), count = max(counts.items(), key=lambda item: item[1])
    if not count:
        return None
    tried = len(_names(rows, name)[:_SAMPLE_OF_MANY_COLUMNS])
    return f"try --images {parent}, which has {count} of the first {tried} names"


def _is_printable_file(parent: Path, name: str) -> bool:
    """Whether there is such a file; False for names that no file can have."""
    is_plain = name.isprintable() and len(name) < 256 and not Path(name).is_absolute()
    return is_plain and (parent / name).is_file()


def _named(rows: LabelRows, names: Sequence[str]) -> Iterable[str]:
    """Returns the columns that have one of these names, in the order of the names."""
    plain = {
        name.strip().lower().replace(" ", "_").replace("-", "_"): name
        for name in rows.columns
        if name not in (rows.labels or ())
    }
    return (plain[name] for name in names if name in plain)


def _is_group(values: Sequence[Any]) -> bool:
    """Whether a value occurs more than once, as no group is unique; 0 and 1 are a label's."""
    present = [str(value) for value in values if value is not None and value != ""]
    return len(set(present)) < len(present) and not _is_binary(values)


def _is_binary(values: Sequence[Any]) -> bool:
    cells = _cells(values)
    return cells.misfit is None and {0, 1} <= cells.values
