"""Whether one trial is better than another, by a paired bootstrap over validation images.

Trials are scored on the same images, so the relevant quantity is how much their *difference* varies
when other images are drawn, which is less than the variation of each AP.

The best of forty trials looks better than it is: the winner's curse. An interval holds for a trial
that was picked by its result only if it holds for every trial that could have been picked. So the
intervals here are simultaneous: with 95 % confidence they all hold, for every setting that has
reported an AP. They are difference ± c · standard error, where c is chosen so that the largest of
all differences, in units of its standard error, stays below c: by the resamples themselves for the
trials whose predictions are given, which takes their similarity into account (trials that differ by
a hundredth of gamma hardly count as two), and by Bonferroni's inequality for the others. With one
comparison c is about 2, with forty about 3.

The reference must be fixed beforehand, such as a baseline, or be the best trial. For the best,
m - 1 comparisons suffice: if the best-looking trial is not the truly best one, then calling it
better than its runner-up means calling it better than the truly best one, and the intervals of all
differences with that one hold simultaneously (Hsu's comparisons with the best). Whether other seeds
would give the same order is another question, which additional runs answer.

References:
    White (2000), A reality check for data snooping, Econometrica 68, 1097-1126.
    Romano and Wolf (2005), Exact and approximate stepdown methods for multiple hypothesis testing,
    JASA 100, 94-108 (the single step with the largest studentised statistic).
    Hsu (1984), Constrained simultaneous confidence intervals for multiple comparisons with the
    best, Annals of Statistics 12, 1136-1144.
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from canopy_search.dashboards.stats.bootstrap import RESAMPLES, resample_ap
from canopy_search.dashboards.stats.difference import CONFIDENCE, Difference, Interval, NoVerdict
from canopy_search.storage.study.predictions import Predictions, ValidationSet

FEWEST_POSITIVES = 10
"""Fewest validation images with a label for which the bootstrap is meaningful."""

_NORMAL = NormalDist()
_MOST_LABELS = 5

Trial = TypeVar("Trial")


def ap_interval(
    predictions: Predictions, *, looked_at: int = 1, resamples: int = RESAMPLES
) -> Interval | NoVerdict:
    """Returns the interval of one trial's AP, or why there is none.

    Args:
        predictions: the trial's.
        looked_at: number of settings among which the trial is the best; 1 for a trial that was
            fixed beforehand. The interval is adjusted for the choice.
        resamples: number of resamples of the images.
    """
    if reason := _too_few(predictions.validation):
        return NoVerdict(reason)
    ap = resample_ap([predictions], resamples=resamples)
    (half_width,), _ = _half_widths(ap.resampled, looked_at)
    value = float(ap.observed[0])
    return Interval(max(0.0, value - half_width), min(1.0, value + half_width))


def verdicts(
    predictions: Mapping[Trial, Predictions],
    reference: Trial,
    others: Sequence[Trial],
    *,
    looked_at: int = 0,
    resamples: int = RESAMPLES,
) -> dict[Trial, Difference | NoVerdict]:
    """Compares trials with a reference, which is a baseline or the best.

    Args:
        predictions: of the trials that have them, as read by `trial_predictions`.
        reference: the trial that the others are compared with.
        others: the trials to compare.
        looked_at: number of settings they were chosen from, including the reference.
        resamples: number of resamples of the images.

    Returns:
        The verdict for each of `others`, or why there is none.
    """
    base = predictions.get(reference)
    reasons = {other: _obstacle(base, predictions.get(other)) for other in others}
    compared = [other for other, reason in reasons.items() if reason is None]
    answers: dict[Trial, Difference | NoVerdict] = {
        other: NoVerdict(reason) for other, reason in reasons.items() if reason is not None
    }
    if base is None or not compared:
        return answers
    ap = resample_ap([base, *(predictions[other] for other in compared)], resamples=resamples)
    differences = (ap.observed[1:] - ap.observed[0]).tolist()
    drawn = ap.resampled[:, 1:] - ap.resampled[:, :1]
    half_widths, comparisons = _half_widths(drawn, looked_at - 1)
    for other, difference, half in zip(compared, differences, half_widths, strict=True):
        answers[other] = Difference(
            difference, difference - half, difference + half, comparisons=comparisons
        )
    return answers


def _half_widths(drawn: NDArray[np.float64], total: int) -> tuple[list[float], int]:
    """Returns half the widths of the simultaneous intervals of some statistics.

    Args:
        drawn: (resamples, statistics).
        total: number of all statistics, including those without resamples.

    Returns:
        The half widths, and the number of statistics that they are adjusted for.
    """
    errors = drawn.std(axis=0, ddof=1)
    distances = np.abs(drawn - drawn.mean(axis=0))
    # A constant, such as the difference of a setting that was tried twice, does not count.
    units = np.divide(distances, errors, out=np.zeros_like(distances), where=errors > 0)
    given: int = np.unique(units[:, errors > 0], axis=1).shape[1]
    not_given = max(0, total - given)
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
        whose = "its" if other is None else "the reference's"
        return f"{whose} predictions were not kept"
    return _too_few(base.validation) or _difference(base.validation, other.validation)


def _too_few(validation: ValidationSet) -> str | None:
    positives = int((validation.targets == 1).any(axis=1).sum())
    if positives >= FEWEST_POSITIVES:
        is_ranked = bool(validation.ranked.any())
        return None if is_ranked else "no label is on some validation images and not on others"
    return (
        f"only {positives} of {len(validation.targets)} validation images have a label; "
        f"at least {FEWEST_POSITIVES} are needed"
    )


def _difference(base: ValidationSet, other: ValidationSet) -> str | None:
    """Returns how two validation sets differ, if they do."""
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
            f"it was validated on other images: {len(other.targets):,} instead of "
            f"{len(base.targets):,}"
        )
    return "it was validated on other images, or the labels of some images changed"


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - _MOST_LABELS
    return ", ".join(labels[:_MOST_LABELS]) + (f" and {more} more" if more > 0 else "")
