"""Synthetic curves of a space in which trials share nothing: learning rate and weight decay."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from canopy_search.search.simulation.curves import CurvePoint

NETWORKS = 4
EPOCHS = 20
COST_RATIO = 4.0
CHANCE_AP = 0.2
LOG_LR = FloatDistribution(-4.0, -1.0, step=0.25)
LOG_DECAY = FloatDistribution(-6.0, -2.0, step=0.5)


@dataclass(frozen=True)
class Rates:
    """The learning curves of networks × learning rates × weight decays, which act from step 1 on.

    With x and w the powers of ten of learning rate and weight decay, and x* and w* the best ones of
    a network, the AP of a run after e epochs is

        chance + (quality − loss(x − x*) − .004 (w − w*)² − chance) · (1 − exp(−e / tau))

    with ``tau`` falling by half for each power of ten of the learning rate, a loss of .03 below and
    .06 above the best rate for a power of ten squared, and noise: a high rate learns faster and
    ends lower. No epoch of two settings is the same, so the stage tree has nothing to share.

    Attributes:
        seed: of the draw.
    """

    seed: int

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The space; rates as powers of ten."""
        return {
            "backbone": CategoricalDistribution([f"network_{n}" for n in range(NETWORKS)]),
            "log10_lr": LOG_LR,
            "log10_weight_decay": LOG_DECAY,
        }

    @property
    def epochs(self) -> int:
        """Epochs of a full run."""
        return EPOCHS

    @property
    def best_ap(self) -> float:
        """The best AP of a full run."""
        return float(self._ap[..., -1].max())

    def curve(self, params: Mapping[str, Any]) -> list[CurvePoint]:
        """Returns the learning curve of a setting."""
        network = int(params["backbone"].rpartition("_")[2])
        rate = _place(params["log10_lr"], LOG_LR)
        decay = _place(params["log10_weight_decay"], LOG_DECAY)
        seconds = float(COST_RATIO ** (network / (NETWORKS - 1)))
        return [
            CurvePoint(f"{network} {rate} {decay} {epoch}", float(val_ap), seconds)
            for epoch, val_ap in enumerate(self._ap[network, rate, decay])
        ]

    @cached_property
    def _ap(self) -> NDArray[np.float64]:
        """(networks, rates, decays, epochs), validation AP."""
        random = np.random.default_rng([self.seed, *b"rates"])

        def drawn(low: float, high: float) -> NDArray[np.float64]:
            return random.uniform(low, high, NETWORKS)[:, None, None, None]

        off_rate = _values(LOG_LR)[:, None, None] - drawn(-3.2, -1.8)
        off_decay = _values(LOG_DECAY)[:, None] - drawn(-5.0, -3.0)
        quality = 0.6 + random.permutation(np.linspace(-0.04, 0.04, NETWORKS))[:, None, None, None]
        quality = quality - np.where(off_rate > 0, 0.06, 0.03) * off_rate**2 - 0.004 * off_decay**2
        tau = drawn(0.1, 0.25) * EPOCHS * 0.5**off_rate
        learned = 1 - np.exp(-np.arange(1, EPOCHS + 1) / tau)
        noise = random.normal(0, random.uniform(0.001, 0.004), learned.shape)
        ap = CHANCE_AP + np.maximum(quality - CHANCE_AP, 0.0) * learned + noise
        return np.asarray(ap, np.float64)


def _values(distribution: FloatDistribution) -> NDArray[np.float64]:
    step = distribution.step or 1.0
    values = np.arange(_place(distribution.high, distribution) + 1) * step + distribution.low
    return np.asarray(values, np.float64)


def _place(value: float, distribution: FloatDistribution) -> int:
    return round((value - distribution.low) / (distribution.step or 1.0))
