"""Plausible random learning curves for a space that has not been searched yet."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from canopy_search.search.simulation.curves import CurvePoint

# The deviations match the two tabulated spaces (benchmarks/log).
_START_AP, _FINAL_AP = 0.2, 0.6
_CHOICE_DEVIATION = 0.06
_RANGE_DEVIATION = 0.08
_NOISE_DEVIATION = 0.01
_SHORTEST_RISE, _LONGEST_RISE = 0.2, 0.7
_RANGE_POINTS, _MOST_POINTS = 101, 1001


class LikelyCurves:
    """A random landscape: the effect of each parameter's value on final AP and learning speed.

    Every choice shifts the final AP. A range has a random best value, and AP falls with the square
    of the distance from it. AP approaches its final value exponentially, faster with some choices
    than with others, with a little noise. Epochs that trials share have one AP, as in the stage
    tree: a parameter has an effect only in epochs that are not shared.

    Args:
        distributions: the space.
        epochs: epochs of a full run.
        seed: seed of the landscape.
        stages: parameters → stage keys of their epochs.
        epoch_s: parameters → seconds of an epoch.
    """

    def __init__(
        self,
        distributions: dict[str, BaseDistribution],
        epochs: int,
        seed: int,
        stages: Callable[[Mapping[str, Any]], Sequence[str]],
        epoch_s: Callable[[Mapping[str, Any]], float],
    ) -> None:
        self._distributions = distributions
        self._epochs = epochs
        self._stages = stages
        self._epoch_s = epoch_s
        self._random = np.random.default_rng(seed)
        self._effects = {
            name: self._draw_effect(domain) for name, domain in sorted(distributions.items())
        }
        self._stage_ap: dict[str, float] = {}

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Dotted name of the parameter → its distribution."""
        return self._distributions

    @property
    def epochs(self) -> int:
        """Epochs of a full run."""
        return self._epochs

    def curve(self, params: Mapping[str, Any]) -> list[CurvePoint]:
        """Returns the learning curve of a setting."""
        expected = self._expected(params)
        points = []
        for epoch, stage in enumerate(self._stages(params), start=1):
            if stage not in self._stage_ap:
                ap = expected(epoch / self._epochs)
                self._stage_ap[stage] = ap + self._random.normal(0, _NOISE_DEVIATION)
            points.append(CurvePoint(stage, self._stage_ap[stage], self._epoch_s(params)))
        return points

    def regret(self, params: Mapping[str, Any]) -> float:
        """Returns by how much the final AP of the best setting exceeds this one, without noise."""
        best: dict[str, Sequence[Any]] = {}
        for name, domain in self._distributions.items():
            best[name] = _values(domain)
            if not isinstance(domain, CategoricalDistribution):
                # A number only shifts the final AP, so its best value is best with all choices.
                shifts = [self._effects[name](value)[0] for value in best[name]]
                best[name] = [best[name][int(np.argmax(shifts))]]
        final_aps = (
            self._expected(dict(zip(best, point, strict=True)))(1.0)
            for point in product(*best.values())
        )
        return max(final_aps) - self._expected(params)(1.0)

    def _expected(self, params: Mapping[str, Any]) -> Callable[[float], float]:
        """Returns the function: share of a run → AP without noise."""
        effects = [self._effects[name](params[name]) for name in self._distributions]
        final = float(np.clip(_FINAL_AP + sum(shift for shift, _ in effects), 0.05, 0.99))
        log_rise = sum(log_rise for _, log_rise in effects)
        middle = math.sqrt(_SHORTEST_RISE * _LONGEST_RISE)
        rise = float(np.clip(middle * math.exp(log_rise), _SHORTEST_RISE, _LONGEST_RISE))
        return lambda share: _START_AP + (final - _START_AP) * (1 - math.exp(-share / rise))

    def _draw_effect(self, domain: BaseDistribution) -> Callable[[Any], tuple[float, float]]:
        """Returns the function: value → shift of the final AP, log factor of the rise time."""
        random = self._random
        if isinstance(domain, CategoricalDistribution):
            shifts = random.normal(0, _CHOICE_DEVIATION, len(domain.choices)).tolist()
            log_rises = random.normal(0, 0.3, len(domain.choices)).tolist()
            choices = list(domain.choices)
            return lambda value: (shifts[choices.index(value)], log_rises[choices.index(value)])
        low, high = float(getattr(domain, "low", 0)), float(getattr(domain, "high", 1))
        is_log = bool(getattr(domain, "log", False))
        best, steepness = random.uniform(), abs(random.normal(0, _RANGE_DEVIATION))

        def range_effect(value: Any) -> tuple[float, float]:
            if high <= low:
                return 0.0, 0.0
            share = (
                math.log(value / low) / math.log(high / low)
                if is_log
                else (value - low) / (high - low)
            )
            return -steepness * (share - best) ** 2, 0.0

        return range_effect


def _values(domain: BaseDistribution) -> Sequence[Any]:
    """Returns the choices of a domain, or evenly spaced values of its range."""
    if isinstance(domain, CategoricalDistribution):
        return domain.choices
    low, high = getattr(domain, "low", 0), getattr(domain, "high", 1)
    if getattr(domain, "log", False):
        return [float(value) for value in np.geomspace(low, high, _RANGE_POINTS)]
    step = getattr(domain, "step", None)
    points = round((high - low) / step) + 1 if step else _RANGE_POINTS
    return [float(value) for value in np.linspace(low, high, min(points, _MOST_POINTS))]
