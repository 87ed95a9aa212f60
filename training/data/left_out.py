"""Images that the label file names and no run can use: missing or damaged ones."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from canopy_search.places.urls import Source
from canopy_search.training.atomic import write_atomically
from canopy_search.training.errors import ImageError

TOLERATED = 0.01
"""Share of the images that may be left out before somebody has to say that it is all right."""

_NAMED = 10


@dataclass(frozen=True)
class LeftOut:
    """One image that is left out.

    Attributes:
        row: of the label file.
        image_name: as the label file writes it.
        kind: ``missing``, ``empty``, ``truncated``, ``no image``, ``too large``, ``damaged``,
            ``unreadable``.
        detail: what else is known.
    """

    row: int
    image_name: str
    kind: str
    detail: str = ""


def left_out_text(left_out: Sequence[LeftOut], images: int) -> str:
    """Says how many images are left out, why, and names the first ten.

    Args:
        left_out: at least one image.
        images: number of images of the label file.
    """
    kinds = Counter(image.kind for image in left_out)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    named = ", ".join(
        f"row {image.row} {image.image_name!r} {image.kind}" for image in left_out[:_NAMED]
    )
    more = ", …" if len(left_out) > _NAMED else ""
    share = 100 * len(left_out) / images
    return f"{len(left_out)} of {images:,} images ({share:.2g} %): {counts} ({named}{more})"


def check_left_out(
    left_out: Sequence[LeftOut], images: int, label_file: Source, *, allow_missing: bool
) -> None:
    """Raises ImageError if more is left out than goes without saying, or everything is."""
    if not left_out:
        return
    text = left_out_text(left_out, images)
    if len(left_out) == images:
        raise ImageError(
            f"{label_file}: no image can be used, {text}; check data.images, and whether the names "
            "are paths below it"
        )
    if len(left_out) > TOLERATED * images and not allow_missing:
        raise ImageError(
            f"{label_file}: cannot use {text}; that is more than {TOLERATED:.0%}: mend the images "
            "or remove their rows, or go on without them with --allow-missing"
        )


def write_left_out(path: Path, left_out: Sequence[LeftOut]) -> None:
    """Writes all images that are left out as CSV: row, image_name, kind, detail."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "image_name", "kind", "detail"])
    writer.writerows([each.row, each.image_name, each.kind, each.detail] for each in left_out)
    write_atomically(path, text.getvalue().encode())
