"""Families of synthetic learning curves, drawn by seed, on which a search can go wrong."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy.stats
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from canopy_search.search.errors import CurveTableError
from canopy_search.search.simulation.curves import CurvePoint
from canopy_search.training.errors import nearest_hint

CORRELATED_EPOCHS = (1, 2, 4, 8)
_CHANCE_AP = 0.2
_NETWORK_NOISE = 0.005  # common to all gammas of a network and loss
_FASTEST_EPOCH_S = 1.0


@dataclass(frozen=True)
class Family:
    """The parameters of a family of landscapes; each seed draws another landscape.

    Attributes:
        name: for ``canopy simulate --family``.
        networks: number of networks.
        losses: number of losses.
        gammas: number of values of gamma; the last one is 1.
        gamma_step: between two values.
        epochs: of a full run.
        cost_ratio: seconds of an epoch of the most expensive network to those of the cheapest.
        is_misleading: whether slow starters tend to end best.
        fastest_epochs: time constant of the fastest network, in epochs of a constant rate.
        slowest: time constant of the slowest network, as a share of a full run.
        slow_start: how much larger the exponent p of the slowest network is than the fastest's.
        annealing: the largest AP that a decayed rate adds.
        curve: how AP approaches its final value: a stretched exponential, or Hill's curve with
            its long tail.
        is_held_out: whether it is held out to check choices that were made on the others.
    """

    name: str
    networks: int
    losses: int
    gammas: int
    gamma_step: float
    epochs: int
    cost_ratio: float
    is_misleading: bool
    fastest_epochs: float = 1.0
    slowest: float = 0.3
    slow_start: float = 0.5
    annealing: float = 0.05
    curve: Literal["exponential", "hill"] = "exponential"
    is_held_out: bool = False

    @property
    def lowest_gamma(self) -> float:
        """The smallest value of gamma."""
        return round(1 - self.gamma_step * (self.gammas - 1), 6)

    @property
    def description(self) -> str:
        """The family in one line."""
        return (
            f"{self.networks} networks × {self.losses} losses × {self.gammas} gammas, "
            f"{self.epochs} epochs, costs 1:{self.cost_ratio:g}"
            f"{', misleading' if self.is_misleading else ''}"
            f"{', held out' if self.is_held_out else ''}"
        )


_HELD_OUT: dict[str, Any] = {"curve": "hill", "is_held_out": True}
FAMILIES = {
    family.name: family
    for family in (
        # For choosing defaults.
        Family("plain-8", 4, 3, 21, 0.01, 8, 4, is_misleading=False, slowest=0.35),
        Family("late-8", 4, 3, 21, 0.01, 8, 2, is_misleading=True, fastest_epochs=0.8, slowest=0.4,
               slow_start=1.0),
        Family("plain-30", 6, 5, 16, 0.01, 30, 12, is_misleading=False, slowest=0.2),
        Family("late-30", 6, 5, 16, 0.005, 30, 12, is_misleading=True, fastest_epochs=1.5,
               slow_start=1.0),
        Family("late-60", 10, 3, 11, 0.005, 60, 6, is_misleading=True, fastest_epochs=2.0,
               slow_start=1.0),
        # Held out to check the defaults: other sizes, and curves of another form.
        Family("kept-plain-8", 6, 3, 11, 0.02, 8, 6, is_misleading=False, **_HELD_OUT),
        Family("kept-late-8", 5, 4, 21, 0.01, 8, 3, is_misleading=True, fastest_epochs=0.4,
               slowest=0.45, slow_start=3.0, **_HELD_OUT),
        Family("kept-late-30", 8, 4, 11, 0.01, 30, 8, is_misleading=True, slow_start=2.0,
               annealing=0.03, **_HELD_OUT),
        Family("kept-plain-60", 8, 3, 21, 0.005, 60, 12, is_misleading=False, slowest=0.2,
               **_HELD_OUT),
        Family("kept-late-60", 5, 5, 16, 0.003, 60, 4, is_misleading=True, fastest_epochs=1.5,
               slowest=0.25, slow_start=1.5, **_HELD_OUT),
    )
}  # fmt: skip


def find_family(name: str) -> Family:
    """Returns a family by its name.

    Raises:
        CurveTableError: there is no family of that name.
    """
    try:
        return FAMILIES[name]
    except KeyError:
        raise CurveTableError(
            f"{name}: no such family; {nearest_hint(name, list(FAMILIES))}"
        ) from None


@dataclass(frozen=True)
class Landscape:
    """The learning curves of one whole space.

    With the learning rate ``gamma ** k`` in epoch k, counted from 0, the progress of a run after e
    epochs is that of a constant rate after ``s = sum(gamma ** k for k < e)``. Its AP is

        chance + (quality − chance) · g(s / tau) + annealing · g(s / tau) · (1 − gamma ** (e − 1))

    with ``g(x) = 1 − exp(−x ** p)`` or ``x ** p / (1 + x ** p)``, and noise: a fast decay looks
    better early and stops sooner. Quality, tau, p and annealing depend on the network, shifted by
    the loss. All gammas share epoch 1, as in the stage tree.

    Attributes:
        family: of the landscape.
        seed: of the draw.
    """

    family: Family
    seed: int

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The space, by dotted name of the setting."""
        family = self.family
        return {
            "backbone": CategoricalDistribution([f"network_{i}" for i in range(family.networks)]),
            "loss": CategoricalDistribution([f"loss_{j}" for j in range(family.losses)]),
            "gamma": FloatDistribution(family.lowest_gamma, 1.0, step=family.gamma_step),
        }

    @property
    def epochs(self) -> int:
        """Epochs of a full run."""
        return self.family.epochs

    @property
    def best_ap(self) -> float:
        """The best AP of a full run."""
        return float(self._ap[..., -1].max())

    def curve(self, params: Mapping[str, Any]) -> list[CurvePoint]:
        """Returns the learning curve of a setting."""
        network = int(params["backbone"].rpartition("_")[2])
        loss = int(params["loss"].rpartition("_")[2])
        gamma = round((params["gamma"] - self.family.lowest_gamma) / self.family.gamma_step)
        seconds = float(self._epoch_s[network])
        return [
            CurvePoint(
                f"{network} {loss} {gamma if epoch else '-'} {epoch}", float(val_ap), seconds
            )
            for epoch, val_ap in enumerate(self._ap[network, loss, gamma])
        ]

    def rank_correlation(self, epoch: int) -> float:
        """Returns Spearman's correlation of AP after an epoch with AP at the end, over the space.

        Equal values, such as all gammas of one network and loss after epoch 1, get their mean rank.

        Args:
            epoch: counts from 1.
        """
        early, late = self._ap[..., epoch - 1].ravel(), self._ap[..., -1].ravel()
        return float(scipy.stats.spearmanr(early, late).statistic)

    @cached_property
    def _epoch_s(self) -> NDArray[np.float64]:
        """(networks,), seconds of an epoch."""
        exponents = np.linspace(0, 1, self.family.networks)
        costs = _FASTEST_EPOCH_S * self.family.cost_ratio**exponents
        return np.random.default_rng([self.seed, 1]).permutation(costs)

    @cached_property
    def _ap(self) -> NDArray[np.float64]:
        """(networks, losses, gammas, epochs), validation AP."""
        family = self.family
        random = np.random.default_rng([self.seed, *family.name.encode()])
        networks, losses, epochs = family.networks, family.losses, family.epochs
        shape = (networks, losses)
        # 0 for the fastest network, 1 for the slowest.
        slowness = random.permutation(np.linspace(0, 1, networks))
        merit = random.permutation(slowness)
        if family.is_misleading:
            merit = (merit + slowness) / 2
        network_quality = 0.55 + 0.13 * merit + random.normal(0, 0.015, networks)
        quality = network_quality[:, None] + random.normal(0, 0.015, losses)
        quality = quality + random.normal(0, 0.008, shape)
        fastest, slowest = family.fastest_epochs, family.slowest * epochs
        tau = fastest * (slowest / fastest) ** slowness
        tau = tau[:, None] * np.exp(random.normal(0, 0.15, losses))
        power = random.uniform(0.9, 1.1, networks) + family.slow_start * slowness
        annealing = random.uniform(0.4, 1.0, networks) * family.annealing

        gamma = np.linspace(family.lowest_gamma, 1.0, family.gammas)[:, None]
        rate = gamma ** np.arange(epochs)  # (gammas, epochs)
        progress = rate.cumsum(axis=1)
        x = (progress / tau[..., None, None]) ** power[:, None, None, None]
        learned = 1 - np.exp(-x) if family.curve == "exponential" else x / (1 + x)
        gap = (quality - _CHANCE_AP)[..., None, None]
        ap = _CHANCE_AP + gap * learned + annealing[:, None, None, None] * learned * (1 - rate)
        stage_noise = random.uniform(0.001, 0.004)
        noise = random.normal(0, stage_noise, (*shape, family.gammas, epochs))
        noise[..., 0] = noise[..., :1, 0]  # epoch 1 is one stage
        noise += random.normal(0, _NETWORK_NOISE, shape)[..., None, None]
        return np.asarray(np.clip(ap + noise, 0.01, 0.99))


def rank_correlations(family: Family, seeds: Sequence[int]) -> dict[int, float]:
    """Returns how well early epochs predict the last one in a family.

    Args:
        family: of the landscapes.
        seeds: of the landscapes.

    Returns:
        Epoch → mean rank correlation, for the `CORRELATED_EPOCHS` before the last epoch.
    """
    drawn = [Landscape(family, seed) for seed in seeds]
    epochs = [epoch for epoch in CORRELATED_EPOCHS if epoch < family.epochs]
    return {
        epoch: statistics.fmean(landscape.rank_correlation(epoch) for landscape in drawn)
        for epoch in epochs
    }
