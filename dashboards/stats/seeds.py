"""What a few seeds say: mean, spread, and whether one setting is better than another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
BETTER, WORSE, WITHIN_NOISE = "better", "worse", "within noise"


@dataclass(frozen=True)
class Spread:
    """One score of a setting over some seeds.

    Attributes:
        seeds: how many.
        mean: of the score.
        sd: standard deviation over the seeds, with one degree less; None for one seed.
        low: lower end of the 95 % t interval of the mean; None for one seed.
        high: its upper end.
    """

    seeds: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    def as_json(self) -> dict[str, Any]:
        """Returns JSON values by name."""
        return vars(self).copy()


@dataclass(frozen=True)
class Difference:
    """How much better one setting is than another one.

    Attributes:
        mean: of the score's difference over the seeds.
        low: lower end of its interval.
        high: its upper end.
        confidence: of the interval.
        over: what it was estimated from, in words.
    """

    mean: float
    low: float
    high: float
    confidence: float
    over: str

    @property
    def verdict(self) -> str:
        """Says ``better``, ``worse`` or ``within noise``."""
        if self.low > 0:
            return BETTER
        return WORSE if self.high < 0 else WITHIN_NOISE

    def as_json(self) -> dict[str, Any]:
        """Returns JSON values by name, the verdict among them."""
        return {**vars(self), "verdict": self.verdict}


def spread(values: Sequence[float]) -> Spread:
    """Returns mean, standard deviation and the 95 % t interval of the mean.

    The interval takes the seeds' scores for independent and normal. It speaks of further seeds on
    the same images.

    Args:
        values: one for each seed, at least one.
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Spread(len(values), mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    half = _t(CONFIDENCE, len(values) - 1) * sd / math.sqrt(len(values))
    return Spread(len(values), mean, sd, mean - half, mean + half)


def paired_difference(
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    image_se: float | None = None,
    comparisons: int = 1,
) -> Difference:
    """Compares two settings that were trained with the same seeds.

    The seeds pair them: the same seed gives the same order of images, and the same initial weights
    where the network is the same, and what that makes of both cancels. The variance of the mean
    difference is that over the seeds, s²/n with n−1 degrees of freedom. On other images it would
    differ besides, for all seeds alike; where that variance is known, from a bootstrap of the
    images, it is added, and the degrees of freedom of the sum are Satterthwaite's. With two or
    three seeds the interval is wide, and most differences are within noise. That is how much so
    few seeds say.

    Args:
        ours: scores of the one, a seed after the other; at least two.
        theirs: scores of the other, of the same seeds.
        image_se: standard error of the mean difference that comes from the choice of images, if it
            is known.
        comparisons: how many are made at once. The confidence of each is raised so that all
            intervals together hold with 95 % (Bonferroni).

    References:
        Satterthwaite (1946), An approximate distribution of estimates of variance components.
    """
    count = len(ours)
    differences = np.subtract(ours, theirs)
    mean = math.fsum(differences) / count
    of_seeds = float(np.var(differences, ddof=1)) / count
    variance = of_seeds + (image_se or 0.0) ** 2
    freedom = (count - 1) * (variance / of_seeds) ** 2 if of_seeds else math.inf
    confidence = 1 - (1 - CONFIDENCE) / comparisons
    half = _t(confidence, freedom) * math.sqrt(variance)
    over = f"{count} seeds" if image_se is None else f"{count} seeds and the images"
    return Difference(mean, mean - half, mean + half, confidence, over)


def _t(confidence: float, freedom: float) -> float:
    """Returns the two-sided quantile of Student's t."""
    return float(stdtrit(freedom, (1 + confidence) / 2))
