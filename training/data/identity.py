"""Identifies parts of a data set by the bytes and labels of their images, in order."""

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from canopy_search.training.data.dataset import Dataset


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
