"""The contact sheet of a data set, whatever its size and its names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.contact_sheet.page import contact_sheet, contact_sheet_html
from canopy_search.dashboards.html.page import Page
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.data.images.skipped import SkippedImage
from canopy_search.training.data.labels.label_file import LabelTable
from canopy_search.training.data.splits import Split
from tests.dashboards.html.test_page import EVIL, Reader


def made(labels: tuple[str, ...], images: int, *, px: int = 16) -> tuple[Dataset, LabelTable]:
    """Images of noise, of which half have a label, and the label file with two more."""
    random = np.random.default_rng(0)
    targets = (random.random((images, len(labels))) < 0.5).astype(np.uint8)
    at = np.arange(images)
    names = tuple(f"{EVIL}{n}.jpg" for n in at)
    skipped = (
        SkippedImage(7, "gone", "missing"),
        SkippedImage(9, EVIL, "damaged", f"{EVIL}\u202e\ud800"),
    )
    dataset = Dataset(
        pixels=random.integers(0, 256, (images, px, px, 3), np.uint8),
        targets=targets,
        labels=labels,
        image_names=names,
        split=Split(at[::2], at[1::4], at[3::4]),
        fingerprint="0123456789abcdef",
        image_px=px,
        skipped=skipped,
    )
    rows = range(2, images + 4)
    everything = np.zeros((images + 2, len(labels)), np.uint8)
    table = LabelTable(
        Path("labels.csv"), "CSV", (*names, "gone", EVIL), labels, everything, tuple(rows)
    )
    return dataset, table


def texts(page: Page) -> list[str]:
    """What a person reads on the page, without pictures."""
    lines = [page.title, *page.lead, *(" ".join((f.name, f.value, f.note)) for f in page.facts)]
    for section in page.sections:
        lines += [f"# {section.title}", *section.paragraphs]
        lines += [chart.sentence for chart in section.charts]
        for table in section.tables:
            lines += [table.caption, " | ".join(column.name for column in table.columns)]
            lines += [" | ".join(cell.text for cell in row) for row in table.rows]
        for gallery in section.galleries:
            lines += [f"{gallery.title}: {gallery.note}"]
            lines += [f"{picture.name}: {picture.note}" for picture in gallery.pictures]
    return lines


def test_the_sheet_shows_labels_split_and_what_is_left_out(words: SnapshotAssertion) -> None:
    dataset, table = made(("road", "haze", "never"), 12)
    dataset.targets[:, 2] = 0
    dataset.targets[0, 1] = 255
    named = replace(dataset, image_names=tuple(f"train_{at}" for at in range(12)))

    assert "\n".join(texts(contact_sheet(named, table, ["new/1.jpg", "new/2.jpg"]))) == words


def test_no_name_is_taken_for_markup_or_cannot_be_written() -> None:
    dataset, table = made((EVIL, "\ud800\u202e", "x" * 500), 12)
    harmless, harmless_table = made(("a", "b", "c"), 12)

    written = contact_sheet_html(dataset, table, [f"{EVIL}\udcff"])

    tags = Reader(written.encode().decode()).tags
    assert tags == Reader(contact_sheet_html(harmless, harmless_table, ["a"])).tags
    assert "x" * 100 not in written


def test_the_sheet_stays_small_however_many_labels_there_are() -> None:
    for labels in (1, 200, 3000):
        dataset, table = made(tuple(f"label {n} {'long ' * 20}" for n in range(labels)), 300, px=96)

        assert len(contact_sheet_html(dataset, table, ["later.jpg"] * 5000)) < 8e6


def test_exclusive_labels_have_no_pairs() -> None:
    dataset, table = made(("a", "b"), 12)
    dataset.targets[:, 1] = 1 - dataset.targets[:, 0]

    assert "pairs" not in {section.key for section in contact_sheet(dataset, table, []).sections}


def test_a_data_set_without_labels_is_shown() -> None:
    dataset, table = made((), 12)

    assert "No label" in contact_sheet_html(dataset, table, [])
