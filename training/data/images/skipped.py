"""Skipped images: those in the label file that are missing or damaged."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from canopy_search.filestore.atomic import write_atomically
from canopy_search.filestore.csv_text import csv_text
from canopy_search.filestore.urls import Source
from canopy_search.training.errors import ImageError, shown

TOLERATED = 0.01
"""Share of the images that may be skipped without ``--allow-missing``."""

_NAMED = 10


@dataclass(frozen=True)
class SkippedImage:
    """One skipped image.

    Attributes:
        row: of the label file.
        image_name: as in the label file.
        kind: ``missing``, ``broken link``, ``unreadable``, or that of a `DamagedImageError`.
        detail: further information.
    """

    row: int
    image_name: str
    kind: str
    detail: str = ""


def skipped_text(skipped: Sequence[SkippedImage], images: int) -> str:
    """Returns how many images are skipped and why, with the first ten names.

    Args:
        skipped: at least one image.
        images: number of images of the label file.
    """
    kinds = Counter(image.kind for image in skipped)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    named = ", ".join(
        f"row {image.row} {shown(image.image_name)} {image.kind}" for image in skipped[:_NAMED]
    )
    more = ", …" if len(skipped) > _NAMED else ""
    noun = "image" if images == 1 else "images"
    details = {image.detail for image in skipped if image.kind == "missing"}
    where = f"; {details.pop()}" if len(details) == 1 and "" not in details else ""
    share = f"{len(skipped):,} of {images:,} {noun} ({_percent(len(skipped), images)})"
    return f"{share}: {counts} ({named}{more}){where}"


def _percent(part: int, whole: int) -> str:
    """Returns a percentage with two digits; 100 % only for all."""
    percent = 100 * part / whole
    if percent < 0.01:
        return "<0.01 %"
    if 99.5 <= percent < 100:
        return ">99 %"
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


def check_skipped(
    skipped: Sequence[SkippedImage], images: int, label_file: Source, *, allow_missing: bool
) -> None:
    """Raises ImageError if too many images are skipped, or all of them."""
    if not skipped:
        return
    text = skipped_text(skipped, images)
    reason = _reason(skipped)
    if len(skipped) == images:
        raise ImageError(
            f"{label_file}: no image can be used, {text}; "
            + (reason or "check data.images, and whether the names are paths below it")
        )
    if len(skipped) > TOLERATED * images and not allow_missing:
        raise ImageError(
            f"{label_file}: cannot use {text}; more than {100 * TOLERATED:.0f} % is an error: "
            f"{reason}{'; ' if reason else ''}fix the images or remove their rows, or skip them "
            "with --allow-missing"
        )


def _reason(skipped: Sequence[SkippedImage]) -> str:
    """Returns the detail of the first image of the most frequent kind, "" if there is none."""
    kind, _ = Counter(image.kind for image in skipped).most_common(1)[0]
    if kind == "missing":
        return ""  # said by `skipped_text`
    return next(image.detail for image in skipped if image.kind == kind)


def write_skipped(path: Path, skipped: Sequence[SkippedImage]) -> None:
    """Writes all skipped images as CSV: row, image_name, kind, detail."""
    columns = ("row", "image_name", "kind", "detail")
    cells = [(image.row, image.image_name, image.kind, image.detail) for image in skipped]
    write_atomically(path, csv_text([columns, *cells]).encode())
