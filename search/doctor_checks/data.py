"""The check of labels and images, without reading the images."""

from dataclasses import dataclass
from pathlib import Path

from search.doctor_checks.finding import Finding, ok, warning
from training.data.demo import SCENES
from training.data.labels import LabelTable, read_label_file
from training.data.left_out import check_left_out, left_out_text
from training.data.locating import Located, locate_images
from training.data.splits import split_table
from training.settings import DataSettings

_DIGITS = 10


@dataclass(frozen=True)
class DataFacts:
    """What other checks need to know of the data.

    Attributes:
        images: that can be found.
        labels: number of labels.
        image_px: side of the decoded squares.
    """

    images: int
    labels: int
    image_px: int


def check_data(settings: DataSettings) -> tuple[DataFacts, Finding]:
    """Reads the label file and looks for its images.

    Raises:
        TrainingError: a search could not begin with them.
    """
    if settings.labels is None or settings.images is None:
        facts = DataFacts(SCENES, _DIGITS, settings.image_px)
        return facts, ok("data", f"the built-in demo: {facts.images:,} images, {_DIGITS} labels")
    table, located = _found(settings, settings.labels, settings.images)
    facts = DataFacts(len(located.paths), len(table.labels), settings.image_px)
    split = split_table(located.table, settings.split)
    found = (
        f"{settings.labels}: {facts.images:,} images, {facts.labels} labels; "
        f"{len(split.train):,} train, {len(split.validation):,} validation, "
        f"{len(split.test):,} test"
    )
    if located.left_out:
        without = left_out_text(located.left_out, len(table.image_names))
        return facts, warning("data", f"{found}; without {without}", "mend them or remove the rows")
    return facts, ok("data", found)


def _found(settings: DataSettings, labels: Path, images: Path) -> tuple[LabelTable, Located]:
    table = read_label_file(labels, settings.columns, settings.split)
    located = locate_images(table, images)
    check_left_out(
        located.left_out,
        len(table.image_names),
        labels,
        allow_missing=settings.allow_missing,
    )
    return table, located
