"""How often training images have each label, and the logits that say so."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from canopy_search.training.data.labels.targets import has_label, is_known
from canopy_search.training.settings import EXCLUSIVE_LOSS


def label_priors(targets: NDArray[np.uint8], *, is_masked: bool) -> tuple[Tensor, int | Tensor]:
    """Returns the share of images that have each label, and the number of images behind it.

    Args:
        targets: (images, labels), uint8, 0 or 1, or `UNKNOWN`, which no share counts.
        is_masked: whether a target may be unknown.

    Returns:
        The shares, (labels,), float32, and the number of images, of all labels or, if masked, of
        each, (labels,).
    """
    if not is_masked:
        return torch.from_numpy(targets.mean(axis=0, dtype=np.float64)).float(), len(targets)
    known = np.maximum(is_known(targets).sum(axis=0), 1)
    shares = torch.from_numpy(has_label(targets).sum(axis=0) / known).float()
    return shares, torch.from_numpy(known)


def between_0_and_1(priors: Tensor, images: int | Tensor) -> Tensor:
    """Returns priors of which none is 0 or 1, (labels,), float64.

    Args:
        priors: (labels,), the share of images that have each label.
        images: number of images behind the priors, of all labels or of each, (labels,). A label
            that none or all of them have is treated as if one image differed.
    """
    one_image = (1 / torch.as_tensor(images).double()).clamp(max=0.5)
    return priors.double().clamp(one_image, 1 - one_image)


def prior_logits(loss: str, targets: NDArray[np.uint8]) -> Tensor:
    """Returns the logits with which every image has the priors as its probabilities.

    Args:
        loss: name of the loss, which decides how logits become probabilities.
        targets: see `label_priors`.

    Returns:
        (labels,), float32.
    """
    priors = between_0_and_1(*label_priors(targets, is_masked=True))
    return (priors.log() if loss == EXCLUSIVE_LOSS else priors.logit()).float()
