"""Predictions of models whose true quality is known."""

import numpy as np

from canopy_search.storage.study.predictions import Predictions, ValidationSet

# Trials of one study find the same images hard: so much of the variance of a score is the image's.
SHARED = 0.81
EQUAL = 1.5
THREE_ERRORS_BETTER = 1.94
"""By so many standard errors of an AP, on 300 images of three labels."""


class SimulatedData:
    """Validation images, on which models of any quality can be made up.

    Args:
        seed: of everything.
        images: number of images.
        frequencies: of the labels.
    """

    def __init__(
        self, seed: int, images: int = 300, frequencies: tuple[float, ...] = (0.6, 0.3, 0.1)
    ) -> None:
        self._random = np.random.default_rng(seed)
        shape = (images, len(frequencies))
        targets = (self._random.random(shape) < np.array(frequencies)).astype(np.uint8)
        labels = tuple(f"label {index}" for index in range(len(frequencies)))
        self.validation = ValidationSet(f"images {seed}", labels, targets)
        self._hardness = self._random.normal(size=shape)

    def model(self, quality: float = EQUAL) -> Predictions:
        """Returns what one more model says; the higher its quality, the more it tells apart."""
        own = self._random.normal(size=self._hardness.shape)
        noise = np.sqrt(SHARED) * self._hardness + np.sqrt(1 - SHARED) * own
        logits = quality * self.validation.targets + noise
        return Predictions(self.validation, logits.astype(np.float32))
