"""Opens the data set of the `data` settings: images, labels and split."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from canopy_search.filestore.retry import FILE_STORE, Retrier
from canopy_search.filestore.urls import Source
from canopy_search.filestore.user_files import real_path
from canopy_search.training.data.cache.pixels import PixelCaches
from canopy_search.training.data.cache.reading import Progress, read_images
from canopy_search.training.data.demo import make_demo
from canopy_search.training.data.files import sources
from canopy_search.training.data.files.sources import opened_images
from canopy_search.training.data.images.conversion import AS_STORED, Conversion
from canopy_search.training.data.images.skipped import SkippedImage, check_skipped, write_skipped
from canopy_search.training.data.labels.label_file import LabelTable, read_label_file
from canopy_search.training.data.labels.locating import locate_images
from canopy_search.training.data.labels.targets import has_label
from canopy_search.training.data.layouts.parquet import unpacked_images
from canopy_search.training.data.splits import Split, split_table
from canopy_search.training.data.warnings import dataset_warnings
from canopy_search.training.settings import Augmentation, DataSettings

_FINGERPRINT_REVISION = "canopy dataset 1"


@dataclass(frozen=True)
class DataFacts:
    """What a network and a disk have to fit.

    Attributes:
        images: number of images.
        train: number of training images.
        labels: number of labels.
        image_px: side of the decoded squares.
    """

    images: int
    train: int
    labels: int
    image_px: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """Decoded images, their labels and their split.

    Attributes:
        pixels: (images, image_px, image_px, 3), uint8, as a read-only memory map.
        targets: (images, labels), uint8, 0 or 1, or `UNKNOWN`.
        labels: names of the columns of `targets`.
        image_names: names of the rows, as in the label file.
        split: which rows are for training, validation and test.
        fingerprint: SHA-256 of image bytes, labels and conversion, hexadecimal.
        image_px: side of the decoded squares.
        conversion: how the files' values became the pixels' colours.
        augment: random flips and rotations of the training images.
        digests: SHA-256 of the image files, hexadecimal.
        skipped: images of the label file that cannot be used.
        warnings: what the user should know about the data, one line each.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.uint8]
    labels: tuple[str, ...]
    image_names: tuple[str, ...]
    split: Split
    fingerprint: str
    image_px: int
    conversion: Conversion = AS_STORED
    augment: tuple[Augmentation, ...] = ()
    digests: tuple[str, ...] = ()
    skipped: tuple[SkippedImage, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def facts(self) -> DataFacts:
        """Numbers and size of the images."""
        images, train = len(self.image_names), len(self.split.train)
        return DataFacts(images, train, len(self.labels), self.image_px)

    def label_counts(self) -> dict[str, int]:
        """Label → number of images that have it."""
        counts = has_label(self.targets).sum(axis=0, dtype=np.int64).tolist()
        return dict(zip(self.labels, counts, strict=True))


def open_dataset(settings: DataSettings, home: Path, progress: Progress | None = None) -> Dataset:
    """Reads labels and images, splits them, and decodes images that are not cached.

    Args:
        settings: where the data is and how it is prepared.
        home: the state folder, which holds demo data, digests and caches.
        progress: called during the slow phases ``making the demo``, ``reading images`` and
            ``decoding images``, and while waiting for unavailable object storage.

    Raises:
        LabelFileError: the label file is missing or malformed.
        ImageError: images are missing or damaged.
        SplitError: there are too few images for the split.
        DiskFullError: the disk has too little free space for the decoded images.
    """
    labels, images = data_sources(settings, home, progress)
    retrier = Retrier(sources.RETRY_POLICY, FILE_STORE)
    if progress is not None:
        retrier.alive = lambda: progress(f"waiting: {retrier.reason}", 0, 1)
    everything = read_label_file(labels, settings, retrier)
    with opened_images(images, retrier) as folder:
        located = locate_images(everything, folder, follow_links=settings.follow_links)
        table, skipped = located.table, located.skipped
        if 2 * len(skipped) > len(everything.image_names):
            # Probably the wrong folder, so fail before the slow phases. Fewer missing images are
            # reported later, together with damaged ones.
            _check(skipped, everything, settings)
        # Before the slow phases, because it can fail.
        split = split_table(table, settings.split)
        read = read_images(
            located.paths, digest_index(home, images), pixel_caches(home, settings), progress
        )
    if read.unusable:
        skipped += [
            SkippedImage(table.row_numbers[at], table.image_names[at], kind, detail)
            for at, (kind, detail) in read.unusable.items()
        ]
        skipped.sort(key=lambda image: image.row)
    _check(skipped, everything, settings)
    if read.unusable:
        table = table.select(read.positions)
        split = split_table(table, settings.split)
    fingerprint = dataset_fingerprint(table, read.digests, read.conversion)
    report = home / "left_out" / f"{fingerprint[:16]}.csv"
    if skipped:
        write_skipped(report, skipped)
    return Dataset(
        pixels=read.pixels,
        targets=table.targets,
        labels=table.labels,
        image_names=table.image_names,
        split=split,
        fingerprint=fingerprint,
        image_px=settings.image_px,
        conversion=read.conversion,
        augment=settings.augment,
        digests=read.digests,
        skipped=tuple(skipped),
        warnings=tuple(dataset_warnings(table, split, read.digests, skipped, report)),
    )


def pixel_caches(home: Path, settings: DataSettings) -> PixelCaches:
    """Returns the caches of decoded images in a state folder."""
    background = None if settings.background == "none" else settings.background
    conversion = Conversion(settings.bands, settings.range, background)
    return PixelCaches(home / "cache", settings.image_px, conversion)


def _check(skipped: Sequence[SkippedImage], table: LabelTable, settings: DataSettings) -> None:
    images = len(table.image_names)
    check_skipped(skipped, images, table.path, allow_missing=settings.allow_missing)


def dataset_fingerprint(
    table: LabelTable, digests: Sequence[str], conversion: Conversion = AS_STORED
) -> str:
    """Returns a digest of the images' bytes and the labels, equal for equal data sets.

    Folder and file names do not matter, except that names decide the order.

    Args:
        table: the labels.
        digests: SHA-256 of each image, hexadecimal, in the table's order.
        conversion: how stored values become colours.
    """
    header = [_FINGERPRINT_REVISION, *table.labels, *conversion.differences]
    sha = hashlib.sha256(json.dumps(header).encode())
    for digest, row in zip(digests, table.targets, strict=True):
        sha.update(bytes.fromhex(digest))
        sha.update(row.tobytes())
    return sha.hexdigest()


def parts_digest(dataset: Dataset, *parts: NDArray[np.int64]) -> str:
    """Returns a SHA-256 of some images and the label names, hexadecimal.

    Args:
        dataset: with the digests of its images.
        parts: rows of the data set; the boundaries between parts also matter.
    """
    sha = hashlib.sha256(json.dumps(list(dataset.labels)).encode())
    for part in parts:
        sha.update(f" {len(part)} ".encode())
        for at in part.tolist():
            sha.update(bytes.fromhex(dataset.digests[at]))
            sha.update(dataset.targets[at].tobytes())
    return sha.hexdigest()


def digest_index(home: Path, images: Source) -> Path:
    """Returns the file that stores the digests of a folder of images.

    Args:
        home: the state folder.
        images: the folder, or its URL.
    """
    return home / "digests" / f"{hashlib.sha256(str(images).encode()).hexdigest()[:32]}.index"


def data_sources(
    settings: DataSettings, home: Path, progress: Progress | None
) -> tuple[Source, Source]:
    """Returns the label file and the folder of images; creates the demo set if needed.

    Args:
        settings: where the data is.
        home: the state folder, which holds the demo set and images that a label file contains.
        progress: see `open_dataset`.

    Raises:
        LabelFileError: there is no folder of images, and the label file contains none.
    """
    if settings.labels is not None:
        images = settings.images or unpacked_images(settings.labels, home)
        return settings.labels, real_path(images) if isinstance(images, Path) else images
    demo = make_demo(home / "demo", _phase("making the demo", progress))
    return demo.labels, real_path(demo.images)


def _phase(name: str, progress: Progress | None) -> Callable[[int, int], None] | None:
    return partial(progress, name) if progress else None
