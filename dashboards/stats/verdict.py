"""Is one trial better than another, or is it noise? By a paired bootstrap over validation images.

Trials are judged on the same images, so what counts is how much their *difference* varies when
other images are drawn, which is less than each AP does by itself.

Whoever looks at forty trials sees a best one, and it looks better than it is: the winner's curse.
An interval holds for a trial that was picked by looking only if it holds for all that could have
been picked. So the intervals here are simultaneous: with 95 % confidence they all hold, for every
trial that was looked at. They are difference ± c · standard error, where c is chosen so that the
largest of all differences, in units of its standard error, stays below it: by the resamples
themselves for the trials whose predictions are given, which makes use of how alike they are (trials
that differ by a hundredth of gamma hardly count as two), and by Bonferroni's inequality for the
others. With one comparison c is about 2, with forty about 3.

What they are compared with must be fixed beforehand, as a baseline is, or be the best. For the best
no more comparisons have to be paid for than m - 1: if the best looking trial is not the best one,
then to call it better than its runner-up is to call it better than the one that is, and the
intervals of all differences with that one hold at once (Hsu's comparisons with the best). Whether
other seeds would give the same order is another question, which further runs answer.

References:
    White (2000), A reality check for data snooping, Econometrica 68, 1097-1126.
    Romano and Wolf (2005), Exact and approximate stepdown methods for multiple hypothesis testing,
    JASA 100, 94-108 (the single step with the largest studentised statistic).
    Hsu (1984), Constrained simultaneous confidence intervals for multiple comparisons with the
    best, Annals of Statistics 12, 1136-1144.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from canopy_search.dashboards.stats.bootstrap import RESAMPLES, SEED, resample_ap
from canopy_search.storage.study.predictions import Predictions, ValidationSet

CONFIDENCE = 0.95
FEWEST_POSITIVES = 10
"""Of fewer validation images that have a label a bootstrap says nothing."""

_NORMAL = NormalDist()
_MOST_LABELS = 5

Word = Literal["better", "worse", "within noise"]
Trial = TypeVar("Trial")


@dataclass(frozen=True)
class Interval:
    """An AP, and where it would lie with other images of the same kind, as many.

    Attributes:
        ap: macro AP on the validation images.
        low: lower end.
        high: upper end.
    """

    ap: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """How a trial compares with another one.

    Attributes:
        difference: its macro AP minus the other's.
        low: lower end of the difference's interval.
        high: upper end.
        comparisons: how many comparisons the interval allows for.
    """

    difference: float
    low: float
    high: float
    comparisons: int

    @property
    def word(self) -> Word:
        """Says ``better`` or ``worse`` where the interval leaves zero out."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "within noise"


@dataclass(frozen=True)
class NoVerdict:
    """Two trials cannot be compared.

    Attributes:
        reason: why, as half a sentence without the names of the trials.
    """

    reason: str


def ap_interval(
    predictions: Predictions,
    *,
    looked_at: int = 1,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval | NoVerdict:
    """Returns the AP of one trial with its interval, or why there is none.

    Args:
        predictions: of the trial.
        looked_at: among how many settings the trial was the best; 1 for one that was fixed
            beforehand. The interval holds for whichever was picked.
        resamples: of the images.
        seed: of the resamples.
    """
    if reason := _too_few(predictions.validation):
        return NoVerdict(reason)
    ap = resample_ap([predictions], resamples=resamples, seed=seed)
    (reach,), _ = _reaches(ap.resampled, looked_at)
    value = float(ap.observed[0])
    return Interval(value, value - reach, value + reach)


def verdicts(
    predictions: Mapping[Trial, Predictions],
    reference: Trial,
    others: Sequence[Trial],
    *,
    looked_at: int = 0,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[Trial, Verdict | NoVerdict]:
    """Compares trials with one that is a baseline or the best.

    Args:
        predictions: of the trials that have any, as `trial_predictions` reads them.
        reference: what is compared with.
        others: the trials that are shown.
        looked_at: how many settings they were chosen from, the reference included.
        resamples: of the images.
        seed: of the resamples.

    Returns:
        For each of `others` its verdict, or why there is none.
    """
    base = predictions.get(reference)
    reasons = {other: _obstacle(base, predictions.get(other)) for other in others}
    compared = [other for other, reason in reasons.items() if reason is None]
    answers: dict[Trial, Verdict | NoVerdict] = {
        other: NoVerdict(reason) for other, reason in reasons.items() if reason is not None
    }
    if base is None or not compared:
        return answers
    ap = resample_ap(
        [base, *(predictions[other] for other in compared)], resamples=resamples, seed=seed
    )
    differences = (ap.observed[1:] - ap.observed[0]).tolist()
    drawn = ap.resampled[:, 1:] - ap.resampled[:, :1]
    reaches, comparisons = _reaches(drawn, looked_at - 1)
    for other, difference, reach in zip(compared, differences, reaches, strict=True):
        answers[other] = Verdict(difference, difference - reach, difference + reach, comparisons)
    return answers


def _reaches(drawn: NDArray[np.float64], in_all: int) -> tuple[list[float], int]:
    """Returns how far the intervals of some statistics reach to either side.

    Args:
        drawn: (drawings, statistics).
        in_all: how many statistics there are, of which these are some.

    Returns:
        The reaches, and how many statistics they allow for.
    """
    errors = drawn.std(axis=0, ddof=1)
    distances = np.abs(drawn - drawn.mean(axis=0))
    # What never varies, such as the difference of a setting that was tried twice, is no statistic.
    units = np.divide(distances, errors, out=np.zeros_like(distances), where=errors > 0)
    given: int = np.unique(units[:, errors > 0], axis=1).shape[1]
    not_given = max(0, in_all - given)
    largest = units.max(axis=1)

    def chance_beyond(c: float) -> float:
        return float((largest > c).mean()) + 2 * not_given * _NORMAL.cdf(-c)

    low, high = 0.0, 10.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if chance_beyond(middle) > 1 - CONFIDENCE else (low, middle)
    return [high * error for error in errors.tolist()], given + not_given


def _obstacle(base: Predictions | None, other: Predictions | None) -> str | None:
    """Returns why two trials cannot be compared, if they cannot."""
    if base is None or other is None:
        return f"no predictions were kept of {'what it is compared with' if other else 'it'}"
    return _too_few(base.validation) or _difference(base.validation, other.validation)


def _too_few(validation: ValidationSet) -> str | None:
    positives = int(validation.targets.any(axis=1).sum())
    if positives >= FEWEST_POSITIVES:
        return None
    return (
        f"only {positives} of {len(validation.targets)} validation images have a label; "
        f"{FEWEST_POSITIVES} are the fewest that say anything"
    )


def _difference(base: ValidationSet, other: ValidationSet) -> str | None:
    """Returns in what two validation sets differ, if they do."""
    if base.digest == other.digest:
        return None
    if base.labels != other.labels:
        only = [label for label in other.labels if label not in base.labels]
        missing = [label for label in base.labels if label not in other.labels]
        parts = [f"without {_listed(missing)}"] if missing else []
        parts += [f"with {_listed(only)}"] if only else []
        return f"it was validated on other labels: {' and '.join(parts) or 'in another order'}"
    if len(base.targets) != len(other.targets):
        return (
            f"it was validated on other images: {len(other.targets):,} in place of "
            f"{len(base.targets):,}"
        )
    return "it was validated on other images, or the labels of some were changed"


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - _MOST_LABELS
    return ", ".join(labels[:_MOST_LABELS]) + (f" and {more} more" if more > 0 else "")
