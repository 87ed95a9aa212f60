"""Parameters of a trial as a person would write them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution

NETWORK = "backbone"
"""The parameter that is the network."""


def canonical_params(
    params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
) -> dict[str, Any]:
    """Returns `params` in the order of `distributions`, stepped floats exactly on their grid.

    Optuna computes low + k·step in floating point and so gives 0.8300000000000001 where a person
    writes 0.83. They are the same setting, and must be the same training run.
    """
    return {
        name: _on_grid(params[name], distribution)
        for name, distribution in distributions.items()
        if name in params
    }


def decimal(number: float) -> Decimal:
    """Returns the shortest decimal that reads as `number`, as a person would have typed it."""
    return Decimal(repr(number))


def _on_grid(value: Any, distribution: BaseDistribution) -> Any:
    if not isinstance(distribution, FloatDistribution) or distribution.step is None:
        return value
    low, step = decimal(distribution.low), decimal(distribution.step)
    return float(low + round((decimal(value) - low) / step) * step)
