"""The check of labels and images; it reads at most one image."""

from pathlib import Path

from canopy_search.filestore.retry import FILE_STORE, Retrier, RetryPolicy
from canopy_search.filestore.urls import Source
from canopy_search.search.doctor.finding import Finding, ok, warning
from canopy_search.training.data.dataset import DataFacts, data_sources
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


def check_data(settings: DataSettings, home: Path) -> tuple[DataFacts, Finding]:
    """Reads the label file and looks for its images.

    Args:
        settings: where the data is.
        home: the state folder, for images that the label file contains.

    Raises:
        TrainingError: a search could not start with them.
    """
    if settings.labels is None:
        facts = DataFacts(SCENES, SCENES, _DIGITS, settings.image_px)
        return facts, ok("data", f"the built-in demo: {facts.images:,} images, {_DIGITS} labels")
    table, located = _found(settings, *data_sources(settings, home, None))
    split = split_table(located.table, settings.split)
    facts = DataFacts(len(located.paths), len(split.train), len(table.labels), settings.image_px)
    found = (
        f"{shown_source(settings.labels)}: {facts.images:,} images, {facts.labels} labels; "
        f"{len(split.train):,} train, {len(split.validation):,} validation, "
        f"{len(split.test):,} test"
    )
    if located.skipped:
        without = skipped_text(located.skipped, len(table.image_names))
        return facts, warning(
            "data", f"{found}; without {without}", "repair them or remove their rows"
        )
    return facts, ok("data", found)


def _found(settings: DataSettings, labels: Source, images: Source) -> tuple[LabelTable, Located]:
    no_wait = Retrier(RetryPolicy(0), FILE_STORE)
    table = read_label_file(labels, settings, no_wait)
    with opened_images(images, no_wait) as folder:
        located = locate_images(table, folder, follow_links=settings.follow_links)
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
    """Reads the first byte of an object: permission to list a bucket does not include reading."""
    if isinstance(file, RemoteFile):
        with reported(ImageError):
            file.read_beginning(1)
