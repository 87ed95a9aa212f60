"""Images of noise in memory, for runs that take milliseconds."""

from typing import Any

import numpy as np

from training.data.dataset import Dataset
from training.data.splits import Split
from training.settings import TrainingSettings

RESOLVED = {"device": "cpu", "precision": "fp32", "threads": 1, "backbone": "tinycnn_8"}


def tiny_settings(**values: Any) -> TrainingSettings:
    """One run of three epochs on one thread, unless `values` say otherwise."""
    return TrainingSettings.model_validate(
        RESOLVED | {"epochs": 3, "batch_size": 8, "optimizer": {"lr": 0.01}} | values
    )


def tiny_dataset(seed: int = 5) -> Dataset:
    """Twenty-four images with two labels: sixteen to train, six to validate, two to test."""
    random = np.random.default_rng(seed)
    return Dataset(
        pixels=random.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8),
        targets=(np.arange(24)[:, None] % np.array([2, 3]) == 0).astype(np.uint8),
        labels=("clear", "road"),
        image_names=tuple(f"image_{at}" for at in range(24)),
        split=Split(np.arange(16), np.arange(16, 22), np.arange(22, 24)),
        fingerprint="f" * 64,
        image_px=16,
        augment=("hflip",),
        digests=tuple(f"{seed:032x}{at:032x}" for at in range(24)),
    )
