"""Macro AP of trials on resampled validation images, the same resamples for all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from canopy_search.storage.study.predictions import Predictions

RESAMPLES = 1000
SEED = 0
# Images times drawings that are counted at a time: 2 MiB of float32, which caches hold.
_COUNTS_AT_ONCE = 2**19


@dataclass(frozen=True, eq=False)
class ResampledAp:
    """Macro AP of some trials.

    Attributes:
        observed: (trials,), float64, on the validation images as they are.
        resampled: (drawings, trials), float64; every row is of the same drawn images. Drawings
            without any positive, which small sets have, are left out.
    """

    observed: NDArray[np.float64]
    resampled: NDArray[np.float64]


def resample_ap(
    predictions: Sequence[Predictions], *, resamples: int = RESAMPLES, seed: int = SEED
) -> ResampledAp:
    """Draws validation images with replacement, and measures all trials on each drawing.

    A drawing is a count for each image, so that nothing is sorted again: the images stay in the
    order of a label's ranking, and AP is that of weighted images. It takes O(images) for each
    resample and label. As everywhere, macro AP is the mean over the labels that have a positive;
    a resample may leave further labels without, for all trials alike.

    Args:
        predictions: of one validation set, which has a positive for some label.
        resamples: number of drawings.
        seed: of the drawings; the same one draws the same images.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 6 and 16.
    """
    targets = predictions[0].validation.targets
    rankings = [_rankings(each.logits, targets) for each in predictions]
    images = len(targets)
    everything = np.ones((images, 1), dtype=np.float32)
    resampled = np.concatenate(
        [
            np.column_stack([_macro_ap(each, counts) for each in rankings])
            for counts in _drawn(images, resamples, seed)
        ]
    )
    return ResampledAp(
        observed=np.array([_macro_ap(each, everything)[0] for each in rankings]),
        resampled=resampled[~np.isnan(resampled[:, 0])],
    )


@dataclass(frozen=True, eq=False)
class LabelRanking:
    """The images in the order of one label's scores, cut after every tie that has a positive.

    Attributes:
        order: the images, the highest score first; none after the last positive's tie.
        starts: where in `order` each stretch begins.
        positives: the images that have the label, in the same order.
        first_positives: where in `positives` those of each stretch begin.
    """

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    positives: NDArray[np.intp]
    first_positives: NDArray[np.intp]


def rank_label(scores: NDArray[np.float32], targets: NDArray[np.uint8]) -> LabelRanking:
    """Sorts the images by the scores of a label that has a positive.

    Args:
        scores: (images,), the logits.
        targets: (images,), 0 or 1.
    """
    order = np.argsort(-scores, kind="stable")
    ends_tie = np.append(np.diff(scores[order]) != 0, True)
    ties = np.cumsum(ends_tie) - ends_tie
    positives = np.flatnonzero(targets[order])
    found, first_positives = np.unique(ties[positives], return_index=True)
    ends = np.flatnonzero(ends_tie)[found] + 1
    starts = np.concatenate([[0], ends[:-1]])
    return LabelRanking(order[: ends[-1]], starts, order[positives], first_positives)


def weighted_ap(ranking: LabelRanking, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns a label's average precision, each image counted as often as its weight says.

    It is what scikit-learn's ``average_precision_score`` gives for the repeated images.

    Args:
        ranking: of the label.
        weights: (images, drawings), whole numbers.

    Returns:
        (drawings,), NaN where no image with the label is left.
    """
    # Sums of whole numbers are exact in float32 up to 2^24.
    seen = np.add.reduceat(weights[ranking.order], ranking.starts, axis=0)
    gained = np.add.reduceat(weights[ranking.positives], ranking.first_positives, axis=0)
    np.cumsum(seen, axis=0, out=seen)
    found = np.cumsum(gained, axis=0)
    total = found[-1].astype(np.float64)
    # Where nothing was seen nothing is gained either.
    precision = np.divide(found, seen, out=found, where=seen > 0)
    ap = np.full(total.shape, np.nan)
    sums = np.einsum("ij,ij->j", gained, precision, dtype=np.float64)
    np.divide(sums, total, out=ap, where=total > 0)
    return ap


def _rankings(logits: NDArray[np.float32], targets: NDArray[np.uint8]) -> list[LabelRanking]:
    return [
        rank_label(logits[:, label], targets[:, label])
        for label in np.flatnonzero(targets.any(axis=0))
    ]


def _macro_ap(
    rankings: Sequence[LabelRanking], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Returns (drawings,), NaN for one without any positive."""
    each = np.stack([weighted_ap(ranking, weights) for ranking in rankings])
    labels = (~np.isnan(each)).sum(axis=0)
    macro = np.full(labels.shape, np.nan)
    np.divide(np.nansum(each, axis=0), labels, out=macro, where=labels > 0)
    return macro


def _drawn(images: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Yields how often each image is drawn: (images, some of the resamples)."""
    random = np.random.default_rng(seed)
    at_once = max(1, _COUNTS_AT_ONCE // images)
    for done in range(0, resamples, at_once):
        counts = np.empty((images, min(at_once, resamples - done)), dtype=np.float32)
        for column in counts.T:
            column[:] = np.bincount(random.integers(images, size=images), minlength=images)
        yield counts
