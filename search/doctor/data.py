"""The check of labels and images, without reading more than one of the images."""

from dataclasses import dataclass

from canopy_search.filestore.urls import Source
from canopy_search.filestore.waiting import Waiting
from canopy_search.search.doctor.finding import Finding, ok, warning
from canopy_search.training.data.demo import SCENES
from canopy_search.training.data.files.sources import (
    ImageFile,
    RemoteFile,
    opened_images,
    reported,
    shown_source,
)
from canopy_search.training.data.images.skipped import check_skipped, skipped_text
from canopy_search.training.data.labels.label_file import LabelTable, read_label_file
from canopy_search.training.data.labels.locating import Located, locate_images
from canopy_search.training.data.splits import split_table
from canopy_search.training.errors import ImageError
from canopy_search.training.settings import DataSettings

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
        f"{shown_source(settings.labels)}: {facts.images:,} images, {facts.labels} labels; "
        f"{len(split.train):,} train, {len(split.validation):,} validation, "
        f"{len(split.test):,} test"
    )
    if located.skipped:
        without = skipped_text(located.skipped, len(table.image_names))
        return facts, warning("data", f"{found}; without {without}", "mend them or remove the rows")
    return facts, ok("data", found)


def _found(settings: DataSettings, labels: Source, images: Source) -> tuple[LabelTable, Located]:
    at_once = Waiting(0)
    table = read_label_file(labels, settings.columns, settings.split, at_once)
    with opened_images(images, at_once) as folder:
        located = locate_images(table, folder)
        for file in located.paths[:1]:
            _check_read(file)
    check_skipped(
        located.skipped,
        len(table.image_names),
        labels,
        allow_missing=settings.allow_missing,
    )
    return table, located


def _check_read(file: ImageFile) -> None:
    """Reads the beginning of an object: who may list a bucket may not always read it."""
    if isinstance(file, RemoteFile):
        with reported(ImageError):
            file.read_beginning(1)
