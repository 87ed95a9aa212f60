"""A sample of a data set, decoded to estimate the time for all images."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from canopy_search.training.data.cache.pixels import cache_bytes
from canopy_search.training.data.cache.reading import Progress, read_images, remembered_digests
from canopy_search.training.data.dataset import (
    Dataset,
    data_sources,
    digest_index,
    open_dataset,
    pixel_caches,
)
from canopy_search.training.data.files.sources import opened_images
from canopy_search.training.data.images.skipped import check_skipped
from canopy_search.training.data.labels.label_file import read_label_file
from canopy_search.training.data.labels.locating import Located, locate_images
from canopy_search.training.data.labels.targets import has_label
from canopy_search.training.data.splits import Split, split_table
from canopy_search.training.errors import ImageError, SplitError
from canopy_search.training.settings import DataSettings

# Parts of the sample that are timed separately, to show how much times vary.
_PARTS = 4
_TRAIN_SHARE = 2 / 3


@dataclass(frozen=True, eq=False)
class DataSample:
    """Some images of a data set, and counts of all of them.

    Attributes:
        dataset: the sample: training images, then validation images that have a label.
        images: number of all usable images.
        train: number of all training images.
        validation: number of all validation images.
        is_decoded: whether all images are cached, decoded, in the state folder.
        images_per_s: images read, decoded and written per second, for each part of the sample;
            empty if all are cached.
        decoding_s: duration of reading, decoding and writing the sample, in seconds.
    """

    dataset: Dataset
    images: int
    train: int
    validation: int
    is_decoded: bool
    images_per_s: tuple[float, ...]
    decoding_s: float

    @property
    def cache_bytes(self) -> int:
        """Size of all decoded images on disk."""
        return cache_bytes(self.images, self.dataset.image_px)


def open_sample(
    settings: DataSettings, home: Path, count: int, progress: Progress | None = None
) -> DataSample:
    """Decodes some images in a temporary folder, or takes them from the cache.

    Nothing is kept, except the demo set and digests of files that were known before.

    Args:
        settings: where the data is and how it is prepared.
        home: the state folder.
        count: images in the sample, if there are that many.
        progress: see `training.data.dataset.open_dataset`.

    Raises:
        LabelFileError, ImageError, SplitError: see `training.data.dataset.open_dataset`.
        SplitError: no validation image has a label.
    """
    labels, images = data_sources(settings, home, progress)
    everything = read_label_file(labels, settings)
    index = digest_index(home, images)
    with opened_images(images) as folder:
        located = locate_images(everything, folder, follow_links=settings.follow_links)
        if index.exists():
            known = remembered_digests(located.paths, index)
            digests = [digest for digest in known if digest is not None]
            if pixel_caches(home, settings).contains(digests):
                return sample_of(open_dataset(settings, home, progress), count)
        check_skipped(
            located.skipped,
            len(everything.image_names),
            everything.path,
            allow_missing=settings.allow_missing,
        )
        return _decoded(located, settings, home, count)


def sample_of(dataset: Dataset, count: int) -> DataSample:
    """Takes the sample from decoded images; see `open_sample`."""
    split = dataset.split
    train, validation = _chosen(dataset.targets, split, count)
    rows = np.concatenate([train, validation])
    return DataSample(
        dataset=replace(
            dataset,
            pixels=dataset.pixels[rows],
            targets=dataset.targets[rows],
            image_names=tuple(dataset.image_names[at] for at in rows),
            digests=tuple(dataset.digests[at] for at in rows),
            split=_in_this_order(len(train), len(rows)),
        ),
        images=len(dataset.image_names),
        train=len(split.train),
        validation=len(split.validation),
        is_decoded=True,
        images_per_s=(),
        decoding_s=0.0,
    )


def _decoded(located: Located, settings: DataSettings, home: Path, count: int) -> DataSample:
    """Reads, decodes and writes the sample like `open_dataset`, in a temporary folder."""
    table = located.table
    split = split_table(table, settings.split)
    train, validation = _chosen(table.targets, split, count)
    order = np.concatenate([train, validation])
    pixels, kept, speeds = [], [], []
    digests: list[str] = []
    decoding_s = 0.0
    home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=home, prefix="plan-") as folder:
        # Every part has training and validation images; they may differ in size.
        for number in range(min(_PARTS, len(order))):
            part = order[number::_PARTS]
            files = [located.paths[at] for at in part]
            part_home = Path(folder) / str(number)
            started = time.perf_counter()
            read = read_images(files, part_home / "index", pixel_caches(part_home, settings))
            part_s = time.perf_counter() - started
            decoding_s += part_s
            speeds.append(len(part) / part_s)
            pixels.append(np.array(read.pixels))
            kept += part[read.positions].tolist()
            digests += read.digests
    in_train = np.isin(kept, train)
    if not in_train.any() or in_train.all():
        raise ImageError(
            f"{table.path}: {len(kept)} of {len(order)} sampled images can be decoded, but at "
            "least one training and one validation image are needed; run canopy doctor for details"
        )
    sorting = np.argsort(~in_train, kind="stable")
    table = table.select([kept[at] for at in sorting])
    dataset = Dataset(
        pixels=np.concatenate(pixels)[sorting],
        targets=table.targets,
        labels=table.labels,
        image_names=table.image_names,
        split=_in_this_order(int(in_train.sum()), len(kept)),
        fingerprint="",  # a sample is not kept
        image_px=settings.image_px,
        augment=settings.augment,
        digests=tuple(digests[at] for at in sorting),
    )
    return DataSample(
        dataset=dataset,
        images=len(located.paths),
        train=len(split.train),
        validation=len(split.validation),
        is_decoded=False,
        images_per_s=tuple(speeds),
        decoding_s=decoding_s,
    )


def _chosen(
    targets: NDArray[np.uint8], split: Split, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns rows to train on and rows to validate on, spread evenly over each part.

    Raises:
        SplitError: no validation image has a label.
    """
    labelled = split.validation[has_label(targets[split.validation]).any(axis=1)]
    if not len(labelled):
        raise SplitError(
            "no validation image has a label, so there is no validation AP to search by; "
            "raise data.split.validation or label more images"
        )
    train = max(1, round(count * _TRAIN_SHARE))
    return _evenly(split.train, train), _evenly(labelled, max(1, count - train))


def _evenly(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    chosen: NDArray[np.int64] = rows[
        np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    ]
    return chosen


def _in_this_order(train: int, images: int) -> Split:
    at = np.arange(images)
    return Split(at[:train], at[train:], at[:0])
