"""Parameters of a trial in canonical form, and their distributions as text."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

NETWORK = "backbone"
"""The parameter that names the network."""


def canonical_params(
    params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
) -> dict[str, Any]:
    """Returns `params` in the order of `distributions`, stepped floats exactly on their grid.

    Optuna computes low + k·step in floating point and so returns 0.8300000000000001 where users
    write 0.83. They are the same setting, and must be the same training run.
    """
    return {
        name: _on_grid(params[name], distribution)
        for name, distribution in distributions.items()
        if name in params
    }


def describe(distribution: BaseDistribution) -> str:
    """Returns a distribution as readable text."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(str(choice) for choice in distribution.choices)
    if not isinstance(distribution, IntDistribution | FloatDistribution):
        raise TypeError(f"unsupported distribution: {distribution}")
    steps = f" step {distribution.step:g}" if distribution.step else ""
    return f"{distribution.low:g} to {distribution.high:g}{steps}{' log' * distribution.log}"


def decimal(number: float) -> Decimal:
    """Returns the shortest decimal that is parsed as `number`, as users type it."""
    return Decimal(repr(number))


def _on_grid(value: Any, distribution: BaseDistribution) -> Any:
    if not isinstance(distribution, FloatDistribution) or distribution.step is None:
        return value
    low, step = decimal(distribution.low), decimal(distribution.step)
    return float(low + round((decimal(value) - low) / step) * step)
