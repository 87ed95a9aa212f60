"""Images of noise in a file, as many and as large as a measurement wants; nothing is decoded."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from canopy_search.training.data.dataset import Dataset
from canopy_search.training.data.splits import Split

LABELS = 17
VALIDATION_SHARE = 15 / 70
"""Validation images for each training image, as with the default split."""


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        backbone: name of a network.
        image_px: side of the images.
        batch_size: images of a step.
        steps: of an epoch.
    """

    backbone: str
    image_px: int
    batch_size: int
    steps: int

    @property
    def name(self) -> str:
        """How the case stands in a table."""
        return f"{self.backbone} {self.image_px} px, batch {self.batch_size}"


def noise_images(case: Case, folder: Path, augment: tuple[str, ...] = ()) -> Dataset:
    """Returns noise for a case, memory-mapped from a file as the cache of decoded images is.

    Args:
        case: how many images, and how large.
        folder: where the file lies, or is written.
        augment: flips and turns of the training images.
    """
    train = case.steps * case.batch_size
    validation = max(2, round(train * VALIDATION_SHARE))
    shape = (train + validation, case.image_px, case.image_px, 3)
    file = folder / f"noise_{'_'.join(map(str, shape))}.bin"
    random = np.random.default_rng(0)
    if not file.exists():
        random.integers(0, 256, shape, dtype=np.uint8).tofile(file)
    return Dataset(
        pixels=np.memmap(file, np.uint8, mode="r", shape=shape),
        targets=(np.random.default_rng(1).random((shape[0], LABELS)) < 0.2).astype(np.uint8),
        labels=tuple(f"label_{at}" for at in range(LABELS)),
        image_names=tuple(str(at) for at in range(shape[0])),
        split=Split(np.arange(train), np.arange(train, shape[0]), np.arange(0)),
        fingerprint="0" * 64,
        image_px=case.image_px,
        augment=augment,  # type: ignore[arg-type] # any names
        digests=tuple(f"{at:064x}" for at in range(shape[0])),
    )
