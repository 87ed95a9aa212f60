"""The split into training, validation and test images."""

from dataclasses import dataclass

import numpy as np
from iterstrat.ml_stratifiers import IterativeStratification
from numpy.typing import NDArray

from training.errors import SplitError
from training.settings import SplitSettings


@dataclass(frozen=True, eq=False)
class Split:
    """Which images are for what: sorted int64 indices, disjoint, together all images."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split_images(targets: NDArray[np.uint8], settings: SplitSettings) -> Split:
    """Splits so that every label is as frequent in each part as in the whole.

    The result depends on the targets and the settings alone and is the same on every machine.

    Args:
        targets: (images, labels), 0 or 1. Images without labels are spread like the others.
        settings: fractions and seed.

    Raises:
        SplitError: a part that was asked for has no images.

    References:
        Sechidis, Tsoumakas, Vlahavas (2011), On the Stratification of Multi-Label Data.
    """
    fractions = [1 - settings.validation - settings.test, settings.validation]
    # The algorithm would hand a part of size 0 the images that are over in the other parts.
    if settings.test > 0:
        fractions.append(settings.test)
    part_of_image = IterativeStratification(
        # It indexes with the rows, so they must be boolean masks.
        targets.astype(bool),
        np.array(fractions),
        np.random.RandomState(settings.seed % 2**32),
    )
    train, validation, test = (np.flatnonzero(part_of_image == part) for part in range(3))
    if not (len(train) and len(validation) and (len(test) or settings.test == 0)):
        raise SplitError(
            f"{len(targets)} images are too few for data.split with validation "
            f"{settings.validation} and test {settings.test}: {len(train)} would be for training, "
            f"{len(validation)} for validation, {len(test)} for test, where each needs at least 1; "
            "add images or change the fractions"
        )
    return Split(train, validation, test)
