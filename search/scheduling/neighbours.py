"""Settings beside a good one: where one number of it, or one choice, is another."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

_STEPS = 20
"""Of a range that has none of its own."""
_NEAR = 1 / 3


def numbers(trial: FrozenTrial) -> list[str]:
    """Returns the names of a trial's parameters that come from a range of numbers."""
    return [
        name
        for name, domain in trial.distributions.items()
        if isinstance(domain, FloatDistribution | IntDistribution) and not domain.single()
    ]


def choices(trial: FrozenTrial) -> dict[str, Sequence[Any]]:
    """Returns the parameters of a trial that are one of several choices, with these."""
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
    """Whether two values are the same; 0.8 + 3 · 0.01 is not quite 0.83."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def wanted_beside(trial: FrozenTrial, known: Iterable[FrozenTrial], name: str) -> Any:
    """Returns the number that tells most of whether one beside a trial's is better.

    On either side of the trial lies a gap, up to the nearest known trial that differs from it in
    this number alone, or to the end of the range. If nothing is known on one side, and something on
    the other, it is the end of the range there; else the middle of the larger gap.

    Args:
        trial: the good one.
        known: others of the study whose APs are known.
        name: of the number.

    Returns:
        A number of the range; None if there is none in either gap.
    """
    axis = _Axis(trial.distributions[name])
    at = axis.place(trial.params[name])
    places = [
        axis.place(other.params[name]) for other in known if differing(trial, other) == {name}
    ]
    below = max((place for place in places if place < at), default=None)
    above = min((place for place in places if place > at), default=None)
    if above is None and below is not None and at < axis.steps:
        return axis.number(axis.steps)
    if below is None and above is not None and at > 0:
        return axis.number(0)
    low = -1 if below is None else below
    high = axis.steps + 1 if above is None else above
    if max(high - at, at - low) < 2:
        return None
    # Of equal gaps the upper one; the middle is rounded towards the trial.
    return axis.number((at + high) // 2 if high - at >= at - low else -(-(at + low) // 2))


def nearest(
    trials: Iterable[FrozenTrial],
    beside: FrozenTrial,
    name: str,
    wanted: Any,
    *,
    however_far: bool = False,
) -> FrozenTrial | None:
    """Returns the trial that is as good as one with a wanted number, if there is one.

    It differs from the wanted one in the number by at most a third of the way from the good one.

    Args:
        trials: to choose from.
        beside: the good one.
        name: of the number.
        wanted: the number.
        however_far: whether the nearest one will do, wherever it is.
    """
    axis = _Axis(beside.distributions[name])
    place = axis.place(wanted)
    reach = _NEAR * abs(place - axis.place(beside.params[name]))
    ways = {
        trial.number: (abs(axis.place(trial.params[name]) - place), trial)
        for trial in trials
        if differing(beside, trial) == {name}
    }
    way, found = min(ways.values(), key=lambda each: (each[0], each[1].number), default=(0, None))
    return found if however_far or way <= reach else None


def distance(one: FrozenTrial, other: FrozenTrial, names: Iterable[str]) -> float:
    """Returns how far apart two trials lie in some numbers, as a sum of shares of their ranges."""
    return sum(abs(place_in_range(one, name) - place_in_range(other, name)) for name in names)


def place_in_range(trial: FrozenTrial, name: str) -> float:
    """Returns where a number of a trial lies in its range: 0 at the low end, 1 at the high one."""
    axis = _Axis(trial.distributions[name])
    return axis.place(trial.params[name]) / axis.steps


class _Axis:
    """A range as places 0 to `steps`, even in the logarithm where it is sampled so."""

    def __init__(self, domain: Any) -> None:
        self._domain = domain
        self._low, self._high = self._scaled(domain.low), self._scaled(domain.high)
        has_steps = domain.step is not None and not domain.log
        self.steps = round((domain.high - domain.low) / domain.step) if has_steps else _STEPS

    def place(self, number: float) -> int:
        """Returns the place that is nearest to a number."""
        return round((self._scaled(number) - self._low) / (self._high - self._low) * self.steps)

    def number(self, place: int) -> Any:
        """Returns the number at a place."""
        scaled = self._low + (self._high - self._low) * place / self.steps
        value = math.exp(scaled) if self._domain.log else scaled
        value = min(max(value, self._domain.low), self._domain.high)
        return round(value) if isinstance(self._domain, IntDistribution) else round(value, 12)

    def _scaled(self, number: float) -> float:
        return math.log(number) if self._domain.log else float(number)
