"""Where a learning curve is heading: the AP that a trial may have after a full run."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.scheduling.neighbours import differing, numbers, place_in_range
from canopy_search.search.scheduling.open_study import stage_at

_GAIN = 0.6
"""What a curve gains while its epochs double, as a share of what it gained in the doubling before:
the value that ranked half-trained runs best on the families of `search.simulation.landscapes`."""
_RIDGE = 0.05
"""Added to the sum of squares of a regression: while complete trials lie close together, their
slope is hardly believed. Chosen on the demo's table and families; .02 to .1 are as good."""


def heading(curve: Mapping[int, float], epochs: int) -> float:
    """Returns the AP that a run is heading for at its end.

    It has gained some AP while its epochs doubled to e; each further doubling gains a share of the
    gain before: M(e) + (M(e) − M(e / 2)) · (q + q² + … + q^k) with M(e) the best AP up to epoch e,
    q = .6 and k = log2(epochs / e).

    Args:
        curve: epoch → AP after it.
        epochs: of a full run.
    """
    epoch = max(curve)
    if epoch >= epochs:
        return curve[epoch]
    best = max(curve.values())
    before = max((ap for at, ap in curve.items() if at <= epoch // 2), default=best)
    doublings = math.log2(epochs / epoch)
    to_come: float = _GAIN * (1 - _GAIN**doublings) / (1 - _GAIN)
    return best + to_come * (best - before)


class Outlook:
    """Where the trials of a study are heading, corrected by what the complete ones came to.

    A curve does not show what its late numbers do to the epochs to come: with a gamma of .8 little
    is left to gain, with 1 much. So to where a trial is heading after epoch e is added what two
    and more complete trials gained beyond that, r = value − heading: their mean r̄, and for each
    late number x, as a share of its range, b · (x − x̄) with the slope of a ridge regression,
    b = Σ (x − x̄)(r − r̄) / (Σ (x − x̄)² + .05).

    Attributes:
        late: names of the numbers in which trials differ that share epoch 1.

    Args:
        trials: of the study; those that have not reported epoch 1 are left out.
        epochs: of a full run.

    References:
        A. E. Hoerl, R. W. Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal
        Problems", Technometrics 12(1), 1970.
    """

    def __init__(self, trials: Iterable[FrozenTrial], epochs: int) -> None:
        known = [trial for trial in trials if 1 in trial.intermediate_values]
        self.late = _late_numbers(known)
        self._epochs = epochs
        self._complete = [trial for trial in known if trial.state == TrialState.COMPLETE]
        self._gains: dict[int, _Gain] = {}

    def __call__(self, trial: FrozenTrial) -> float:
        """Returns the AP that a trial is heading for at its end."""
        curve = trial.intermediate_values
        epoch = max(curve)
        if epoch >= self._epochs:
            return curve[epoch]
        if epoch not in self._gains:
            self._gains[epoch] = self._gained(epoch)
        gain = self._gains[epoch]
        late = sum(
            slope * (place_in_range(trial, name) - middle)
            for name, middle, slope in gain.slopes
            if name in numbers(trial)
        )
        return heading(curve, self._epochs) + gain.mean + late

    def _gained(self, epoch: int) -> "_Gain":
        """Returns how much better complete trials ended than they were heading for at an epoch."""
        gains: list[tuple[FrozenTrial, float]] = []
        for trial in self._complete:
            if epoch in trial.intermediate_values and trial.value is not None:
                curve = {at: ap for at, ap in trial.intermediate_values.items() if at <= epoch}
                gains.append((trial, trial.value - heading(curve, self._epochs)))
        if len(gains) < 2:
            return _Gain(0.0, ())
        mean = statistics.fmean(gain for _, gain in gains)
        slopes = []
        for name in self.late:
            points = [(place_in_range(t, name), gain) for t, gain in gains if name in numbers(t)]
            middle = statistics.fmean(place for place, _ in points) if points else 0.0
            product = sum((place - middle) * (gain - mean) for place, gain in points)
            square = sum((place - middle) ** 2 for place, _ in points)
            slopes.append((name, middle, product / (square + _RIDGE)))
        return _Gain(mean, tuple(slopes))


@dataclass(frozen=True)
class _Gain:
    """What complete trials gained beyond where they were heading after an epoch.

    Attributes:
        mean: of their gains.
        slopes: name of a late number, mean of its places, and the gain from one end to the other.
    """

    mean: float
    slopes: tuple[tuple[str, float, float], ...]


def _late_numbers(trials: Iterable[FrozenTrial]) -> list[str]:
    """Returns the numbers in which trials differ that share epoch 1."""
    first: dict[Any, FrozenTrial] = {}
    late: set[str] = set()
    for trial in trials:
        sibling = first.setdefault(stage_at(trial, 1), trial)
        late |= differing(trial, sibling).intersection(numbers(trial))
    return sorted(late)
