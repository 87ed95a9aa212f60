"""Warnings about the data that the user should see before training, one line each."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from canopy_search.training.data.images.skipped import SkippedImage, skipped_text
from canopy_search.training.data.labels.label_file import LabelTable
from canopy_search.training.data.labels.targets import has_label
from canopy_search.training.data.splits import PARTS, Split
from canopy_search.training.errors import listed


def dataset_warnings(
    table: LabelTable,
    split: Split,
    digests: Sequence[str],
    skipped: Sequence[SkippedImage],
    report: Path,
) -> list[str]:
    """Returns a line on how the label file was read, and warnings about the data.

    Args:
        table: the used images.
        split: of these images.
        digests: SHA-256 of each image, hexadecimal.
        skipped: the images that are not used.
        report: the file that lists the skipped images.
    """
    warnings = [_reading(table, split)]
    if skipped:
        images = len(table.image_names) + len(skipped)
        warnings.append(f"skipped: {skipped_text(skipped, images)}; full list in {report}")
    for part in PARTS:
        if names := labels_without_positives(table, split, part):
            effect = "cannot be learned" if part == "train" else f"have no {part} AP"
            warnings.append(f"no image in {part} has {listed(names)}: these labels {effect}")
    if names := labels_without_negatives(table, split, "validation"):
        warnings.append(
            f"every image in validation has {listed(names)}: no model can miss these labels, so "
            "the mean AP leaves them out"
        )
    if copies := copies_across_parts(split, digests):
        names = [f"{table.image_names[one]} = {table.image_names[other]}" for one, other in copies]
        warnings.append(
            f"identical images in different parts of the split: {len(copies)}, so scores are too "
            f"high ({listed(names)})"
        )
    return warnings


def labels_without_positives(table: LabelTable, split: Split, part: str) -> list[str]:
    """Returns the labels that no image of a part has; an empty list if the part is empty."""
    rows = getattr(split, part)
    if not len(rows):
        return []
    return [table.labels[at] for at in np.flatnonzero(~has_label(table.targets[rows]).any(axis=0))]


def labels_without_negatives(table: LabelTable, split: Split, part: str) -> list[str]:
    """Returns the labels that every image of a part has, as far as that is known."""
    targets = table.targets[getattr(split, part)]
    constant = has_label(targets).any(axis=0) & ~(targets == 0).any(axis=0)
    return [table.labels[at] for at in np.flatnonzero(constant)]


def copies_across_parts(split: Split, digests: Sequence[str]) -> list[tuple[int, int]]:
    """Returns images with identical bytes in different parts, each with the first one."""
    parts = np.empty(len(digests), np.int64)
    for number, part in enumerate(PARTS):
        parts[getattr(split, part)] = number
    images: dict[str, list[int]] = defaultdict(list)
    for at, digest in enumerate(digests):
        images[digest].append(at)
    return [
        (same[0], other)
        for same in images.values()
        for other in same[1:]
        if parts[other] != parts[same[0]]
    ]


def _reading(table: LabelTable, split: Split) -> str:
    counts = " / ".join(f"{len(getattr(split, part)):,}" for part in PARTS)
    how = f"by {table.split_origin}" if table.parts is not None else "at random"
    if table.parts is not None and "validation" not in table.parts:
        how += ", validation drawn from train"
    grouped = ", groups kept together" if table.groups is not None else ""
    return (
        f"data: {len(table.image_names):,} images, {len(table.labels):,} labels ({table.layout}); "
        f"train / validation / test {counts} {how}{grouped}"
    )
