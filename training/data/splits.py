"""The split into training, validation and test images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from iterstrat.ml_stratifiers import IterativeStratification
from numpy.typing import NDArray

from canopy_search.training.data.labels.label_file import LabelTable
from canopy_search.training.data.labels.targets import has_label
from canopy_search.training.errors import SplitError, shown
from canopy_search.training.settings import SplitSettings

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """The images of each part: sorted int64 indices, disjoint, together all images."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split_table(table: LabelTable, settings: SplitSettings) -> Split:
    """Splits by the label file's split column if there is one, else at random by groups.

    Args:
        table: the labels, with parts and groups if the file has those columns.
        settings: fractions and seed.

    Raises:
        SplitError: a requested part has no images, or the file's own split puts a group in two
            parts.
    """
    if table.parts is not None:
        if table.groups is not None:
            _check_groups_are_whole(table, table.parts, table.groups)
        return _given_split(table, table.parts, settings)
    return split_images(table.targets, settings, table.groups)


def split_images(
    targets: NDArray[np.uint8], settings: SplitSettings, groups: Sequence[str] | None = None
) -> Split:
    """Splits so that every label is equally frequent in every part.

    The result depends only on targets, groups and settings and is the same on every machine.

    Args:
        targets: (images, labels), 0 or 1, or `UNKNOWN`, which counts as 0. Images without labels
            are distributed too.
        settings: fractions and seed.
        groups: for each image the name of its group; "" is a group of one image.

    Raises:
        SplitError: a requested part has no images.

    References:
        Sechidis, Tsoumakas, Vlahavas (2011), On the Stratification of Multi-Label Data.
    """
    validation, test = settings.validation_share, settings.test_share
    has = has_label(targets)
    fractions = [1 - validation - test, validation]
    # The algorithm would give a part of size 0 the surplus images of the other parts.
    if test > 0:
        fractions.append(test)
    random = np.random.RandomState(settings.seed % 2**32)
    if groups is None:
        # The function indexes with the rows, so they must be boolean masks.
        part_of_image = IterativeStratification(has, np.array(fractions), random)
    else:
        part_of_image = _parts_of_groups(has, groups, fractions, random)
    split = Split(*(np.flatnonzero(part_of_image == part) for part in range(3)))
    if not (len(split.train) and len(split.validation) and (len(split.test) or not test)):
        in_groups = f" in {len(_positions(groups)[1])} groups" if groups is not None else ""
        raise SplitError(
            f"{len(targets)} images{in_groups} are too few for data.split with validation "
            f"{validation} and test {test}: {len(split.train)} would be for "
            f"training, {len(split.validation)} for validation, {len(split.test)} for test, where "
            "each needs at least 1; add images or change the fractions"
        )
    return split


def _given_split(table: LabelTable, parts: Sequence[str], settings: SplitSettings) -> Split:
    written = np.array(parts)
    split = Split(*(np.flatnonzero(written == part) for part in PARTS))
    if len(split.test) and len(split.train) and not len(split.validation):
        return _with_drawn_validation(table, split, settings)
    for name in ("train", "validation"):
        if not len(getattr(split, name)):
            raise SplitError(
                f"{table.path}: {table.split_origin} assigns no image to {name}; assign some, or "
                "set data.split.column to null to split at random (canopy init: --split-column "
                "none)"
            )
    return split


def _with_drawn_validation(table: LabelTable, split: Split, settings: SplitSettings) -> Split:
    """Returns the user's split with some of its training images for validation.

    Raises:
        SplitError: there are too few training images.
    """
    groups = None if table.groups is None else [table.groups[at] for at in split.train]
    share = SplitSettings(validation=settings.validation_share, test=0.0, seed=settings.seed)
    drawn = split_images(table.targets[split.train], share, groups)
    return Split(split.train[drawn.train], split.train[drawn.validation], split.test)


def _check_groups_are_whole(table: LabelTable, parts: Sequence[str], groups: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for at, group in enumerate(groups):
        before = first.setdefault(group, at) if group else at
        if parts[before] != parts[at]:
            raise SplitError(
                f"{table.path}: rows {table.row_numbers[before]} and {table.row_numbers[at]}: "
                f"group {shown(group)} is in {parts[before]} and in {parts[at]}; keep a group in "
                "one part, or set data.split.group to null (canopy init: --group-column none)"
            )


def _parts_of_groups(
    targets: NDArray[np.bool_],
    groups: Sequence[str],
    fractions: Sequence[float],
    random: np.random.RandomState,
) -> NDArray[np.int64]:
    """Returns the part of each image; each group is in one part.

    Groups are assigned from the largest on, each to the part where it brings the counts of images
    and labels closest to the fractions: with c the group's counts and d the counts that a part
    still lacks, each relative to the total of its label, that is the part with the largest c · d.
    """
    position, names = _positions(groups)
    # Images count as a label that all of them have, with the weight of all labels together.
    counts = np.zeros((len(names), targets.shape[1] + 1))
    np.add.at(counts, position, np.column_stack([targets, np.ones(len(targets))]))
    total = np.maximum(counts.sum(axis=0), 1)
    weights = np.append(np.full(targets.shape[1], 1 / max(targets.shape[1], 1)), 1.0) / total**2
    lacking = np.outer(fractions, counts.sum(axis=0))
    shuffled = random.permutation(len(names))
    # Rounded, because the last bits of a sum differ between machines.
    sizes = np.round(counts[shuffled] ** 2 @ weights, 9)
    order = shuffled[np.argsort(-sizes, kind="stable")]
    part_of_group = np.zeros(len(names), np.int64)
    for group in order:
        part = int(np.argmax(np.round(lacking @ (weights * counts[group]), 9)))
        part_of_group[group] = part
        lacking[part] -= counts[group]
    return part_of_group[position]


def _positions(groups: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Returns for each image the position of its group, and the group names."""
    names = [group or f"\0{at}" for at, group in enumerate(groups)]
    position = {name: at for at, name in enumerate(dict.fromkeys(names))}
    return np.array([position[name] for name in names]), list(position)
