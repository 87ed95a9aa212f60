"""Where a learning curve is heading: the AP that a trial may have after a full run."""

import math
import statistics
from collections.abc import Iterable, Mapping

from optuna.trial import FrozenTrial, TrialState

_GAIN = 0.6
"""What a curve gains while its epochs double, as a share of what it gained in the doubling before:
the value that ranked half-trained runs best on the families of `search.simulation.landscapes`."""


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


def heading_at(trial: FrozenTrial, epoch: int, epochs: int) -> float:
    """Returns where a trial was heading after an epoch that it has come to.

    Args:
        trial: that has reported this epoch.
        epoch: counts from 1.
        epochs: of a full run.
    """
    curve = {at: ap for at, ap in trial.intermediate_values.items() if at <= epoch}
    return heading(curve, epochs)


def mean_gain(trials: Iterable[FrozenTrial], epoch: int, epochs: int) -> float:
    """Returns how much better complete trials ended than they were heading for after an epoch.

    Args:
        trials: of a study.
        epoch: counts from 1.
        epochs: of a full run.

    Returns:
        The mean; 0 where no complete trial has reported this epoch.
    """
    gained = []
    for trial in trials:
        curve = trial.intermediate_values
        if trial.state == TrialState.COMPLETE and trial.value is not None and epoch in curve:
            there = heading({at: ap for at, ap in curve.items() if at <= epoch}, epochs)
            gained.append(trial.value - there)
    return statistics.fmean(gained) if gained else 0.0
