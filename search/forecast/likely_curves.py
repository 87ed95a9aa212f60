"""Learning curves as they may turn out over a space that nobody has searched yet."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from canopy_search.search.simulation.curves import CurvePoint

# The spreads of these are as in the two spaces that were tabulated (benchmarks/RESULTS.md).
_START_AP, _FINAL_AP = 0.2, 0.6
_CHOICE_DEVIATION = 0.06
_RANGE_DEVIATION = 0.08
_NOISE_DEVIATION = 0.01
_SHORTEST_RISE, _LONGEST_RISE = 0.2, 0.7
_RANGE_POINTS, _MOST_POINTS = 101, 1001


class LikelyCurves:
    """A landscape drawn at random: what each value of each parameter is worth, how fast it learns.

    Every choice shifts the final AP, and a range has its best value somewhere, away from which AP
    falls with the square of the distance. AP comes near its end exponentially, sooner with some
    choices than with others, and is a little noisy. Epochs that trials share have one AP, as in
    the stage tree: a setting shows only where its epochs are its own.

    Args:
        distributions: the space.
        epochs: of a full run.
        seed: of the landscape.
        stages: parameters → the keys of the setting's epochs.
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
        self._worth = {
            name: self._drawn_worth(each) for name, each in sorted(distributions.items())
        }
        self._known: dict[str, float] = {}

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The space, by dotted name of the setting."""
        return self._distributions

    @property
    def epochs(self) -> int:
        """Of a full run."""
        return self._epochs

    def curve(self, params: Mapping[str, Any]) -> list[CurvePoint]:
        """Returns the learning curve of a setting."""
        expected = self._expected(params)
        points = []
        for epoch, stage in enumerate(self._stages(params), start=1):
            if stage not in self._known:
                ap = expected(epoch / self._epochs)
                self._known[stage] = ap + self._random.normal(0, _NOISE_DEVIATION)
            points.append(CurvePoint(stage, self._known[stage], self._epoch_s(params)))
        return points

    def regret(self, params: Mapping[str, Any]) -> float:
        """Returns how much better the best setting of the space ends, noise apart."""
        best: dict[str, Sequence[Any]] = {}
        for name, domain in self._distributions.items():
            best[name] = _values(domain)
            if not isinstance(domain, CategoricalDistribution):
                # A number only shifts the end, so the best one is best with all choices.
                added = [self._worth[name](value)[0] for value in best[name]]
                best[name] = [best[name][int(np.argmax(added))]]
        ends = (
            self._expected(dict(zip(best, point, strict=True)))(1.0)
            for point in product(*best.values())
        )
        return max(ends) - self._expected(params)(1.0)

    def _expected(self, params: Mapping[str, Any]) -> Callable[[float], float]:
        """Returns: share of a run → AP without noise."""
        worths = [self._worth[name](params[name]) for name in self._distributions]
        final = float(np.clip(_FINAL_AP + sum(worth for worth, _ in worths), 0.05, 0.99))
        haste = sum(haste for _, haste in worths)
        middle = math.sqrt(_SHORTEST_RISE * _LONGEST_RISE)
        rise = float(np.clip(middle * math.exp(haste), _SHORTEST_RISE, _LONGEST_RISE))
        return lambda share: _START_AP + (final - _START_AP) * (1 - math.exp(-share / rise))

    def _drawn_worth(self, domain: BaseDistribution) -> Callable[[Any], tuple[float, float]]:
        """Returns: value of a parameter → what it adds to the final AP, and how much it hurries."""
        random = self._random
        if isinstance(domain, CategoricalDistribution):
            worth = random.normal(0, _CHOICE_DEVIATION, len(domain.choices)).tolist()
            haste = random.normal(0, 0.3, len(domain.choices)).tolist()
            choices = list(domain.choices)
            return lambda value: (worth[choices.index(value)], haste[choices.index(value)])
        low, high = float(getattr(domain, "low", 0)), float(getattr(domain, "high", 1))
        is_log = bool(getattr(domain, "log", False))
        best, steepness = random.uniform(), abs(random.normal(0, _RANGE_DEVIATION))

        def of_value(value: Any) -> tuple[float, float]:
            if high <= low:
                return 0.0, 0.0
            share = (
                math.log(value / low) / math.log(high / low)
                if is_log
                else (value - low) / (high - low)
            )
            return -steepness * (share - best) ** 2, 0.0

        return of_value


def _values(domain: BaseDistribution) -> Sequence[Any]:
    """Returns the choices of a domain, or numbers all over its range."""
    if isinstance(domain, CategoricalDistribution):
        return domain.choices
    low, high = getattr(domain, "low", 0), getattr(domain, "high", 1)
    if getattr(domain, "log", False):
        return [float(value) for value in np.geomspace(low, high, _RANGE_POINTS)]
    step = getattr(domain, "step", None)
    points = round((high - low) / step) + 1 if step else _RANGE_POINTS
    return [float(value) for value in np.linspace(low, high, min(points, _MOST_POINTS))]
