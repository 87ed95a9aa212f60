"""Learning rates in closed form, so that interrupting a run does not change them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from canopy_search.training.settings import TrainingSettings

FIRST_FACTOR = 1 / 25
"""Factor of the first step of ``one_cycle``, the default of torch's OneCycleLR."""


def exponential_lr(lr0: float, gamma: float, epoch: int) -> float:
    """Returns the learning rate of an epoch, ``lr0 · gamma^epoch``.

    Args:
        lr0: learning rate of the first epoch.
        gamma: factor from one epoch to the next; 1.0 is a constant rate.
        epoch: number of finished epochs, 0 for the first.

    Raises:
        ValueError: the epoch is negative.

    References:
        `torch.optim.lr_scheduler.ExponentialLR`, which multiplies step by step and so
        differs in the last bits.
    """
    if epoch < 0:
        raise ValueError(f"epoch is {epoch}; it counts finished epochs, 0 for the first")
    return lr0 * gamma**epoch


def learning_rates(settings: TrainingSettings, epoch: int, steps: int) -> list[float]:
    """Returns the learning rate of each step of an epoch.

    With ``t`` the number of finished steps, of the warm-up's ``W`` and the run's ``T``:

    - the warm-up is ``lr · (t + 1) / W``, but for ``one_cycle``;
    - ``constant`` is ``lr``, ``exponential`` is `exponential_lr`;
    - ``cosine`` is half a cosine from ``lr`` at ``W`` to ``lr · final_factor`` at ``T``;
    - ``one_cycle`` is half a cosine from ``lr · FIRST_FACTOR`` at 0 to ``lr`` at ``W - 1``, then
      another one to ``lr · final_factor`` at ``T - 1``;
    - ``wsd`` is ``lr``, in the last ``decay_epochs`` a line to ``lr · final_factor`` at ``T``.

    Args:
        settings: of the run.
        epoch: number of finished epochs, 0 for the first.
        steps: of an epoch.

    References:
        `torch.optim.lr_scheduler`: LinearLR (warm-up, decay), CosineAnnealingLR, OneCycleLR
        without its cycle of momentum. Hu et al. 2024, MiniCPM, https://arxiv.org/abs/2404.06395
        (wsd).
    """
    schedule = settings.schedule
    lr = exponential_lr(settings.optimizer.lr, settings.gamma, epoch)
    phases = _Phases(
        warmup=round(schedule.warmup_epochs * steps),
        decay=round(schedule.decay_epochs * steps),
        total=settings.epochs * steps,
        final_factor=schedule.final_factor,
    )
    first = epoch * steps
    factor = _FACTORS[schedule.name]
    if factor is _warmed_up and first >= phases.warmup:
        return [lr] * steps
    return [lr * factor(phases, min(step, phases.total)) for step in range(first, first + steps)]


@dataclass(frozen=True)
class _Phases:
    """A schedule in steps.

    Attributes:
        warmup: steps of the warm-up.
        decay: last steps, in which ``wsd`` falls.
        total: steps of the run.
        final_factor: factor at its end.
    """

    warmup: int
    decay: int
    total: int
    final_factor: float


def _warmed_up(phases: _Phases, step: int) -> float:
    return (step + 1) / phases.warmup if step < phases.warmup else 1.0


def _cosine(phases: _Phases, step: int) -> float:
    if step < phases.warmup:
        return _warmed_up(phases, step)
    return _half_cosine(
        1.0, phases.final_factor, (step - phases.warmup) / max(1, phases.total - phases.warmup)
    )


def _one_cycle(phases: _Phases, step: int) -> float:
    top = phases.warmup - 1
    if step < top:
        return _half_cosine(FIRST_FACTOR, 1.0, step / top)
    return _half_cosine(1.0, phases.final_factor, (step - top) / max(1, phases.total - 1 - top))


def _warmup_stable_decay(phases: _Phases, step: int) -> float:
    decayed = step - (phases.total - phases.decay)
    if decayed <= 0:
        return _warmed_up(phases, step)
    return 1.0 + (phases.final_factor - 1.0) * decayed / phases.decay


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


_FACTORS: Mapping[str, Callable[[_Phases, int], float]] = MappingProxyType(
    {
        "constant": _warmed_up,
        "exponential": _warmed_up,
        "cosine": _cosine,
        "one_cycle": _one_cycle,
        "wsd": _warmup_stable_decay,
    }
)
