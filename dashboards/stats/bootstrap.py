"""Macro AP of trials on resampled validation images, the same resamples for all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from canopy_search.storage.study.predictions import Predictions, ValidationSet

RESAMPLES = 1000
SEED = 0
# Images times resamples processed at once: 2 MiB of float32, which fits into CPU caches.
_COUNTS_AT_ONCE = 2**19


@dataclass(frozen=True, eq=False)
class ResampledAp:
    """Macro AP of some trials.

    Attributes:
        observed: (trials,), float64, on the original validation images.
        resampled: (resamples, trials), float64; all trials of a row use the same images. Resamples
            without any positive, which occur with small sets, are skipped.
    """

    observed: NDArray[np.float64]
    resampled: NDArray[np.float64]


def resample_ap(
    predictions: Sequence[Predictions], *, resamples: int = RESAMPLES, seed: int = SEED
) -> ResampledAp:
    """Draws validation images with replacement, and scores all trials on each resample.

    A resample is a count for each image, so nothing is sorted again: the images stay in the order
    of a label's ranking, and AP is computed with weights, in O(images) for each resample and label.
    As everywhere, macro AP is the mean over the labels with a positive and a negative; a resample
    may leave more labels without a positive, the same for all trials.

    Args:
        predictions: for one validation set, which has a positive and a negative for at least one
            label.
        resamples: number of resamples.
        seed: of the resamples; the same seed draws the same images.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 6 and 16.
    """
    validation = predictions[0].validation
    rankings = [_rankings(each.logits, validation) for each in predictions]
    images = len(validation.targets)
    all_images = np.ones((images, 1), dtype=np.float32)
    resampled = np.concatenate(
        [
            np.column_stack([_macro_ap(each, counts) for each in rankings])
            for counts in _drawn(images, resamples, seed)
        ]
    )
    return ResampledAp(
        observed=np.array([_macro_ap(each, all_images)[0] for each in rankings]),
        resampled=resampled[~np.isnan(resampled[:, 0])],
    )


@dataclass(frozen=True, eq=False)
class LabelRanking:
    """The images in the order of one label's scores, split after every tie that has a positive.

    Attributes:
        order: the images, the highest score first, up to the last positive's tie.
        starts: index in `order` where each segment starts.
        positives: the images that have the label, in the same order.
        first_positives: index in `positives` where those of each segment start.
    """

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    positives: NDArray[np.intp]
    first_positives: NDArray[np.intp]


def rank_label(scores: NDArray[np.float32], targets: NDArray[np.uint8]) -> LabelRanking:
    """Sorts the images by the scores of a label that has a positive.

    Args:
        scores: (images,), the logits.
        targets: (images,), 0 or 1. Images with another value, which is unknown, are left out.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[targets[order] <= 1]
    ends_tie = np.append(np.diff(scores[order]) != 0, True)
    ties = np.cumsum(ends_tie) - ends_tie
    positives = np.flatnonzero(targets[order])
    found, first_positives = np.unique(ties[positives], return_index=True)
    ends = np.flatnonzero(ends_tie)[found] + 1
    starts = np.concatenate([[0], ends[:-1]])
    return LabelRanking(order[: ends[-1]], starts, order[positives], first_positives)


def weighted_ap(ranking: LabelRanking, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns a label's average precision, with each image repeated as often as its weight.

    It equals scikit-learn's ``average_precision_score`` of the repeated images.

    Args:
        ranking: the label's ranking.
        weights: (images, resamples), whole numbers.

    Returns:
        (resamples,), NaN where no image with the label was drawn.
    """
    # Sums of whole numbers are exact in float32 up to 2^24.
    seen = np.add.reduceat(weights[ranking.order], ranking.starts, axis=0)
    gained = np.add.reduceat(weights[ranking.positives], ranking.first_positives, axis=0)
    np.cumsum(seen, axis=0, out=seen)
    found = np.cumsum(gained, axis=0)
    total = found[-1].astype(np.float64)
    # Where no image was seen, no positive was found either.
    precision = np.divide(found, seen, out=found, where=seen > 0)
    ap = np.full(total.shape, np.nan)
    sums = np.einsum("ij,ij->j", gained, precision, dtype=np.float64)
    np.divide(sums, total, out=ap, where=total > 0)
    return ap


def _rankings(logits: NDArray[np.float32], validation: ValidationSet) -> list[LabelRanking]:
    return [
        rank_label(logits[:, label], validation.targets[:, label])
        for label in np.flatnonzero(validation.ranked)
    ]


def _macro_ap(
    rankings: Sequence[LabelRanking], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Returns (resamples,), NaN for a resample without any positive."""
    per_label = np.stack([weighted_ap(ranking, weights) for ranking in rankings])
    labels = (~np.isnan(per_label)).sum(axis=0)
    macro = np.full(labels.shape, np.nan)
    np.divide(np.nansum(per_label, axis=0), labels, out=macro, where=labels > 0)
    return macro


def _drawn(images: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Yields how often each image is drawn: (images, a batch of the resamples)."""
    random = np.random.default_rng(seed)
    at_once = max(1, _COUNTS_AT_ONCE // images)
    for done in range(0, resamples, at_once):
        counts = np.empty((images, min(at_once, resamples - done)), dtype=np.float32)
        for column in counts.T:
            column[:] = np.bincount(random.integers(images, size=images), minlength=images)
        yield counts
