"""Statistics over a few seeds: mean, spread, and whether one setting beats another."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from canopy_search.dashboards.stats.difference import CONFIDENCE, Difference, Spread

FEWEST_SEEDS = 3
"""Fewest seeds for an interval and a verdict: Student's t of two is 12.7 standard errors."""


def spread(values: Sequence[float]) -> Spread:
    """Returns mean, standard deviation and the 95 % t interval of the mean.

    The interval assumes independent and normal scores. It covers additional seeds on the same
    images, not other images. It is cut off at 0 and 1, between which every AP is.

    Args:
        values: one AP for each seed, at least one.
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Spread(len(values), mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    if len(values) < FEWEST_SEEDS:
        return Spread(len(values), mean, sd, None, None)
    half = _t(CONFIDENCE, len(values) - 1) * sd / math.sqrt(len(values))
    return Spread(len(values), mean, sd, max(0.0, mean - half), min(1.0, mean + half))


def paired_difference(
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    image_se: float | None = None,
    comparisons: int = 1,
) -> Difference:
    """Compares two settings that were trained with the same seeds.

    Scores are paired by seed: the same seed gives the same order of images, and the same initial
    weights for the same network, so their common effect cancels. The variance of the mean
    difference is that over the seeds, s²/n with n−1 degrees of freedom. Other images would change
    the difference too, equally for all seeds; if that variance is known from a bootstrap of the
    images, it is added, with Satterthwaite's degrees of freedom for the sum. With three seeds the
    interval is wide, and most differences are within noise; with two it means nothing, so there is
    no verdict. It is cut off at -1 and 1, between which every difference of two APs is.

    Args:
        ours: scores of one setting, one per seed; at least two.
        theirs: scores of the other setting, with the same seeds.
        image_se: standard error of the mean difference that is due to the choice of images, if
            known.
        comparisons: number of simultaneous comparisons. The confidence of each is raised so that
            all intervals together hold with 95 % (Bonferroni).

    References:
        Satterthwaite (1946), An approximate distribution of estimates of variance components.
    """
    count = len(ours)
    differences = np.subtract(ours, theirs)
    mean = math.fsum(differences) / count
    seed_variance = float(np.var(differences, ddof=1)) / count
    variance = seed_variance + (image_se or 0.0) ** 2
    freedom = (count - 1) * (variance / seed_variance) ** 2 if seed_variance else math.inf
    confidence = 1 - (1 - CONFIDENCE) / comparisons
    half = _t(confidence, freedom) * math.sqrt(variance)
    over = f"{count} seeds" if image_se is None else f"{count} seeds and the images"
    low, high = max(-1.0, mean - half), min(1.0, mean + half)
    return Difference(mean, low, high, confidence, over, comparisons, count >= FEWEST_SEEDS)


def _t(confidence: float, freedom: float) -> float:
    """Returns the two-sided quantile of Student's t."""
    return float(stdtrit(freedom, (1 + confidence) / 2))
