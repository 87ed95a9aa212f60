"""Thresholds that turn logits into tags, chosen for each label on validation."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from canopy_search.training.metrics import check_logits

ONE_HALF = 0.0
"""The logit of probability 0.5."""

THRESHOLD_BETAS = {"f1": 1.0, "f2": 2.0}
"""Thresholds stored in a model: name → beta of the F-measure that they maximise."""


def best_thresholds(logits: Tensor, targets: Tensor, *, beta: float) -> npt.NDArray[np.float32]:
    """Returns the threshold of each label with the highest F-beta; logits from it on are tags.

    All thresholds that separate images are tried. The result is midway between two neighbouring
    logits, so that rounding on another machine moves no image across it. Ties go to the highest
    threshold, which gives the fewest tags. A label without a positive example gets the logit of
    probability 0.5.

    Args:
        logits: (images, labels), float32 on the CPU, unnormalised.
        targets: (images, labels), 0 or 1 of any dtype, on the CPU; NaN is unknown and not counted.
        beta: how many times recall counts as much as precision.

    Returns:
        (labels,), float32, finite.

    Raises:
        NonFiniteLogitsError: a logit is NaN or infinite.
        ValueError: shapes do not match, there is no image, or `beta` is not positive.

    References:
        Lipton, Elkan, Naryanaswamy (2014), Optimal Thresholding of Classifiers to Maximize F1
        Measure.
    """
    check_logits(logits, targets)
    if not beta > 0:
        raise ValueError(f"beta must be positive, found {beta}")
    # All arrays are (labels, images), each row from the highest logit to the lowest.
    scores = np.ascontiguousarray(logits.detach().numpy().T).astype(np.float64)
    order = np.argsort(-scores, axis=1, kind="stable")
    scores = np.take_along_axis(scores, order, axis=1)
    sorted_targets = np.take_along_axis(targets.numpy().T, order, axis=1)

    true_positives = (sorted_targets == 1).cumsum(axis=1)
    predicted = np.maximum(np.isin(sorted_targets, (0, 1)).cumsum(axis=1), 1)
    positives = true_positives[:, -1:]
    weight = beta**2
    f_beta = (1 + weight) * true_positives / (weight * positives + predicted)
    # A threshold is only possible where the next logit differs, or below all of them.
    f_beta[:, :-1][scores[:, 1:] == scores[:, :-1]] = -1.0
    next_scores = np.concatenate([scores[:, 1:], scores[:, -1:] - 1.0], axis=1)
    best = f_beta.argmax(axis=1)[:, None]
    above = np.take_along_axis(scores, best, axis=1)
    below = np.take_along_axis(next_scores, best, axis=1)
    midway = ((above + below) / 2).astype(np.float32)
    # Between adjacent floats there is no midpoint, and rounding could give the lower one.
    thresholds = np.where(midway > below, midway, above.astype(np.float32))
    return np.where(positives > 0, thresholds, np.float32(ONE_HALF))[:, 0]
