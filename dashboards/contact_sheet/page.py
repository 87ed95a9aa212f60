"""The contact sheet of a data set: one HTML page on which a wrong reading is seen at a glance."""

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from canopy_search.dashboards.charts.together import MOST_DRAWN, together_chart
from canopy_search.dashboards.formatting.values import counted, percent_text, shortened
from canopy_search.dashboards.html.page import (
    Cell,
    Column,
    Fact,
    Gallery,
    Page,
    Picture,
    Section,
    Table,
    page_html,
)
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.data.files.sources import shown_source
from canopy_search.training.data.images.skipped import SkippedImage
from canopy_search.training.data.labels.label_file import LabelTable
from canopy_search.training.data.labels.targets import has_exclusive_labels, has_label, is_known
from canopy_search.training.data.splits import PARTS

_PICTURES = 480
"""Most pictures on a page, so that it stays below some MiB."""
_PICTURED_LABELS = 240
_PER_LABEL = 8
_PICTURE_PX = 96
_ROWS = 1000


def contact_sheet_html(dataset: Dataset, table: LabelTable, unnamed: Sequence[str]) -> str:
    """Returns the contact sheet as one self-contained HTML file.

    Args:
        dataset: the images that a search would use, as networks see them.
        table: the whole label file.
        unnamed: files in the folder of images that the label file does not name.
    """
    return page_html(contact_sheet(dataset, table, unnamed))


def contact_sheet(dataset: Dataset, table: LabelTable, unnamed: Sequence[str]) -> Page:
    """Returns the contact sheet; see `contact_sheet_html`."""
    has = has_label(dataset.targets)
    counts = has.sum(axis=0)
    order = np.argsort(-counts, kind="stable")
    source = shortened(shown_source(table.path))
    labels = [shortened(dataset.labels[at]) for at in order if counts[at]]
    sections = [
        Section(
            "pictures",
            "Pictures",
            _pictures_text(order),
            galleries=list(_galleries(dataset, has, order)),
        ),
        Section("labels", "Labels", _labels_text(order), tables=[_label_table(dataset, order)]),
    ]
    if len(labels) > 1 and not has_exclusive_labels(dataset.targets):
        chart = together_chart(labels, has[:, order[: min(len(labels), MOST_DRAWN)]])
        sections.append(Section("pairs", "Pairs of labels", charts=[chart]))
    sections.append(_left_out(dataset.skipped, len(table.image_names), unnamed))
    return Page(
        kicker=f"Contact sheet of {source}",
        title=f"{counted(len(has), 'image')} with {counted(len(order), 'label')}",
        lead=[
            f"Read from {source}: {shortened(table.layout)}. Do the pictures show their labels, "
            "and is nothing left out that should be in?"
        ],
        facts=_facts(dataset, len(table.image_names), unnamed),
        sections=sections,
        colophon=f"Written by canopy init. Data {dataset.fingerprint[:12]}.",
    )


def _facts(dataset: Dataset, images: int, unnamed: Sequence[str]) -> list[Fact]:
    has = has_label(dataset.targets)
    left_out = len(dataset.skipped)
    without = counted(int((~has.any(axis=1)).sum()), "image")
    each = f"{has.sum() / len(has):.1f} an image; {without} with none"
    sizes = [(part, len(getattr(dataset.split, part))) for part in PARTS]
    shares = ", ".join(f"{part} {percent_text(size / len(has))}" for part, size in sizes)
    facts = [
        Fact("images", f"{len(has):,}", f"as networks see them: {dataset.image_px} px square"),
        Fact("labels", f"{len(dataset.labels):,}", each),
        Fact("split", " / ".join(f"{size:,}" for _, size in sizes), shares),
        Fact("left out", f"{left_out:,}", f"{percent_text(left_out / images)} of the label file"),
    ]
    if unnamed:
        facts.append(Fact("not named", f"{len(unnamed):,}", "files that the label file lacks"))
    return facts


def _pictures_text(order: NDArray[np.int64]) -> list[str]:
    text = "Each picture has its file's name, its part of the split and its labels."
    if len(order) > _PICTURED_LABELS:
        half = _PICTURED_LABELS // 2
        text += f" Of {len(order):,} labels, the {half} most frequent and the {half} rarest follow."
    return [text]


def _galleries(
    dataset: Dataset, has: NDArray[np.bool_], order: NDArray[np.int64]
) -> Iterator[Gallery]:
    """Yields some pictures of each label, the most frequent first, then of no label."""
    if len(order) > _PICTURED_LABELS:
        half = _PICTURED_LABELS // 2
        order = np.concatenate([order[:half], order[-half:]])
    most = max(2, min(_PER_LABEL, _PICTURES // max(1, len(order))))
    names = [shortened(dataset.labels[at]) for at in order]
    pictured = [(name, np.flatnonzero(has[:, at])) for name, at in zip(names, order, strict=True)]
    pictured.append(("No label", np.flatnonzero(~has.any(axis=1))))
    for title, rows in pictured:
        if len(rows):
            chosen = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
            note = f"{counted(len(rows), 'image')}, {percent_text(len(rows) / len(has))}"
            yield Gallery(title, note, [_picture(dataset, has, at) for at in chosen.tolist()])


def _picture(dataset: Dataset, has: NDArray[np.bool_], at: int) -> Picture:
    part = next(part for part in PARTS if at in getattr(dataset.split, part))
    labels = ", ".join(shortened(dataset.labels[label]) for label in np.flatnonzero(has[at])[:10])
    name = shortened(dataset.image_names[at])
    return Picture(_address(dataset.pixels[at]), name, f"{part}: {labels or 'no label'}")


def _address(pixels: NDArray[np.uint8]) -> str:
    """Returns the data URL of a small WebP image, in which the pixels of a tiny one are seen."""
    larger = max(1, _PICTURE_PX // len(pixels))
    image = Image.fromarray(pixels.repeat(larger, axis=0).repeat(larger, axis=1))
    image.thumbnail((_PICTURE_PX, _PICTURE_PX))
    content = BytesIO()
    image.save(content, "WEBP", quality=70)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def _labels_text(order: NDArray[np.int64]) -> list[str]:
    if len(order) <= _ROWS:
        return []
    return [f"The {_ROWS:,} most frequent of {len(order):,} labels."]


def _label_table(dataset: Dataset, order: NDArray[np.int64]) -> Table:
    """Returns how many images of each part have each label."""
    order = order[:_ROWS]
    targets = dataset.targets[:, order]
    has, unknown = has_label(targets), ~is_known(targets)
    columns = {"images": has.sum(axis=0)}
    columns |= {part: has[getattr(dataset.split, part)].sum(axis=0) for part in PARTS}
    if unknown.any():
        columns["unknown"] = unknown.sum(axis=0)
    rows = [
        [
            Cell(shortened(dataset.labels[label])),
            *(Cell(f"{count[at]:,}", float(count[at])) for count in columns.values()),
            Cell(percent_text(columns["images"][at] / len(has)), float(columns["images"][at])),
        ]
        for at, label in enumerate(order.tolist())
    ]
    headings = [Column(name, is_number=True) for name in (*columns, "share")]
    caption = "Images of each label; click a heading to sort, again to reverse"
    return Table("counts", caption, [Column("label"), *headings], rows, has_filter=len(rows) > 10)


def _left_out(skipped: Sequence[SkippedImage], images: int, unnamed: Sequence[str]) -> Section:
    """Returns which images are not used, and why."""
    kinds = Counter(image.kind for image in skipped).most_common()
    reasons = ", ".join(f"{count:,} {kind}" for kind, count in kinds)
    paragraphs = ["Every image of the label file is used."]
    tables = []
    if skipped:
        share = percent_text(len(skipped) / images)
        paragraphs = [f"{len(skipped):,} of {counted(images, 'image')} ({share}): {reasons}."]
        columns = [Column("image"), Column("row", is_number=True), Column("reason", is_choice=True)]
        rows = [
            [
                Cell(shortened(image.image_name)),
                Cell(str(image.row), float(image.row)),
                Cell(image.kind),
                Cell(shortened(image.detail, 200)),
            ]
            for image in skipped[:_ROWS]
        ]
        columns.append(Column("detail"))
        caption = _first_rows("Images of the label file that cannot be used", len(skipped))
        tables.append(Table("skipped", caption, columns, rows, has_filter=True))
    if unnamed:
        folders = Counter(str(PurePosixPath(name).parent) for name in unnamed).most_common()
        paragraphs.append(
            f"The label file does not name {counted(len(unnamed), 'file')} in the folder of "
            f"images, such as {shortened(unnamed[0])}; that is right for images without labels."
        )
        rows = [[Cell(shortened(name)), Cell(f"{n:,}", float(n))] for name, n in folders[:_ROWS]]
        columns = [Column("folder"), Column("files", is_number=True)]
        caption = _first_rows("Folders of files that the label file does not name", len(folders))
        tables.append(Table("unnamed", caption, columns, rows))
    return Section("left-out", "Left out", paragraphs, tables=tables)


def _first_rows(caption: str, rows: int) -> str:
    return caption if rows <= _ROWS else f"{caption}: the first {_ROWS:,} of {rows:,}"
