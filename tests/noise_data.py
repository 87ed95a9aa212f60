"""Images of noise in memory, for runs that take milliseconds."""

import numpy as np
from numpy.typing import NDArray

from canopy_search.training.data.dataset import Dataset
from canopy_search.training.data.splits import Split
from canopy_search.training.settings import Augmentation

IMAGE_PX = 16


def noise_dataset(train: int, validation: int, test: int) -> Dataset:
    """Returns so many images with two labels, one in two and one in three; no files."""
    images = train + validation + test
    random = np.random.default_rng(5)
    at = np.arange(images)
    return Dataset(
        pixels=random.integers(0, 256, (images, IMAGE_PX, IMAGE_PX, 3), dtype=np.uint8),
        targets=(at[:, None] % np.array([2, 3]) == 0).astype(np.uint8),
        labels=("clear", "road"),
        image_names=tuple(f"image_{index}" for index in at),
        split=Split(*np.split(at, [train, train + validation])),
        fingerprint="f" * 64,
        image_px=IMAGE_PX,
        augment=("hflip",),
        digests=tuple(f"{index:064x}" for index in at),
    )


def dataset_of(
    pixels: NDArray[np.uint8], targets: NDArray[np.uint8], augment: tuple[Augmentation, ...] = ()
) -> Dataset:
    """Returns these images, all of them to train on."""
    at = np.arange(len(pixels))
    return Dataset(
        pixels=pixels,
        targets=targets,
        labels=tuple(map(str, range(targets.shape[1]))),
        image_names=tuple(map(str, at)),
        split=Split(at, at[:0], at[:0]),
        fingerprint="f" * 64,
        image_px=pixels.shape[1],
        augment=augment,
    )
