"""Settings next to a good one, which differ from it in one number."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

_STEPS = 20
"""Steps of a range that defines none."""
_NEAR = 1 / 3
"""A trial is near enough to a wanted number within this share of the way from the good one."""


def numbers(trial: FrozenTrial) -> list[str]:
    """Returns the names of a trial's parameters that are sampled from a range of numbers."""
    return [
        name
        for name, domain in trial.distributions.items()
        if isinstance(domain, FloatDistribution | IntDistribution) and not domain.single()
    ]


def choices(trial: FrozenTrial) -> dict[str, Sequence[Any]]:
    """Returns the categorical parameters of a trial with their choices."""
    return {
        name: domain.choices
        for name, domain in trial.distributions.items()
        if isinstance(domain, CategoricalDistribution)
    }


def differing(one: FrozenTrial, other: FrozenTrial) -> set[str]:
    """Returns the names of the parameters in which two trials differ."""
    return {
        name
        for name in one.params.keys() | other.params.keys()
        if not _is_same(one.params.get(name), other.params.get(name))
    }


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same; 0.8 + 3 · 0.01 is not exactly 0.83."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def most_informative_number(trial: FrozenTrial, known: Iterable[FrozenTrial], name: str) -> Any:
    """Returns the number to try next in order to find a better one than a trial has.

    On each side of the trial is a gap, up to the nearest known trial that differs from it in this
    number alone, or to the end of the range. If there is a known trial on one side only, it is the
    end of the range on the other side; else the middle of the larger gap.

    Args:
        trial: the good trial.
        known: other trials of the study whose APs are known.
        name: of the number.

    Returns:
        A number of the range; None if neither gap contains one.
    """
    axis = _Axis(trial.distributions[name])
    at = axis.index(trial.params[name])
    indices = [
        axis.index(other.params[name]) for other in known if differing(trial, other) == {name}
    ]
    below = max((index for index in indices if index < at), default=None)
    above = min((index for index in indices if index > at), default=None)
    if above is None and below is not None and at < axis.steps:
        return axis.number(axis.steps)
    if below is None and above is not None and at > 0:
        return axis.number(0)
    low = -1 if below is None else below
    high = axis.steps + 1 if above is None else above
    if max(high - at, at - low) < 2:
        return None
    # If the gaps are equal, the upper one; the middle is rounded towards the trial.
    return axis.number((at + high) // 2 if high - at >= at - low else -(-(at + low) // 2))


def nearest(
    trials: Iterable[FrozenTrial],
    good: FrozenTrial,
    name: str,
    wanted: Any,
    *,
    however_far: bool = False,
) -> FrozenTrial | None:
    """Returns the trial that is close enough to a wanted setting, if there is one.

    The wanted setting is the good trial's, with another value of one number. A trial is close
    enough if it differs from that value by at most a third of the way from the good trial's.

    Args:
        trials: to choose from.
        good: the good trial.
        name: of the number.
        wanted: the value of the number.
        however_far: whether to return the nearest trial at any distance.
    """
    axis = _Axis(good.distributions[name])
    index = axis.index(wanted)
    reach = _NEAR * abs(index - axis.index(good.params[name]))
    distances = [
        (abs(axis.index(trial.params[name]) - index), trial)
        for trial in trials
        if differing(good, trial) == {name}
    ]
    shortest, found = min(distances, key=lambda pair: (pair[0], pair[1].number), default=(0, None))
    return found if however_far or shortest <= reach else None


def distance(one: FrozenTrial, other: FrozenTrial, names: Iterable[str]) -> float:
    """Returns the distance of two trials in some numbers, as a sum of shares of their ranges."""
    return sum(abs(relative_position(one, name) - relative_position(other, name)) for name in names)


def relative_position(trial: FrozenTrial, name: str) -> float:
    """Returns the position of a trial's number in its range, from 0 (low end) to 1 (high end)."""
    axis = _Axis(trial.distributions[name])
    return axis.index(trial.params[name]) / axis.steps


class _Axis:
    """A range as a grid of indices 0 to `steps`, spaced logarithmically if it is sampled so."""

    def __init__(self, domain: Any) -> None:
        self._domain = domain
        self._low, self._high = self._scaled(domain.low), self._scaled(domain.high)
        has_steps = domain.step is not None and not domain.log
        self.steps = round((domain.high - domain.low) / domain.step) if has_steps else _STEPS

    def index(self, number: float) -> int:
        """Returns the index nearest to a number."""
        return round((self._scaled(number) - self._low) / (self._high - self._low) * self.steps)

    def number(self, index: int) -> Any:
        """Returns the number at an index."""
        scaled = self._low + (self._high - self._low) * index / self.steps
        value = math.exp(scaled) if self._domain.log else scaled
        value = min(max(value, self._domain.low), self._domain.high)
        return round(value) if isinstance(self._domain, IntDistribution) else round(value, 12)

    def _scaled(self, number: float) -> float:
        return math.log(number) if self._domain.log else float(number)
