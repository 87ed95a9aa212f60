"""Batches that are cut because they do not fit into memory: gradient accumulation."""

from collections.abc import Sequence
from dataclasses import dataclass

# Batch normalisation refuses a single image whose features are 1×1, and learns nothing from it.
MICRO_BATCH_MIN = 2


@dataclass(frozen=True)
class Accumulation:
    """How batches are cut from one epoch on.

    Attributes:
        from_epoch: counts from 1.
        steps: micro-batches that one optimizer step gathers its gradient from.
    """

    from_epoch: int
    steps: int

    def __post_init__(self) -> None:
        if self.from_epoch < 1 or self.steps < 1:
            raise ValueError(f"expected numbers from 1 on, found {self}")


def steps_at(accumulation: Sequence[Accumulation], epoch: int) -> int:
    """Returns how many micro-batches a batch of `epoch` is cut into: 1 where nothing is said.

    Args:
        accumulation: of one run, in the order of their epochs.
        epoch: counts from 1.
    """
    begun = [each.steps for each in accumulation if each.from_epoch <= epoch]
    return begun[-1] if begun else 1


def cut_from(
    accumulation: Sequence[Accumulation], epoch: int, steps: int
) -> tuple[Accumulation, ...]:
    """Returns an accumulation that has at least `steps` from `epoch` on, and is as it was before.

    Args:
        accumulation: of one run, in the order of their epochs.
        epoch: counts from 1.
        steps: more than the run has at `epoch`.
    """
    before = [each for each in accumulation if each.from_epoch < epoch]
    finer = [each for each in accumulation if each.from_epoch > epoch and each.steps > steps]
    return (*before, Accumulation(epoch, steps), *finer)


def finer_steps(batch_size: int, steps: int) -> int | None:
    """Returns twice `steps`, or as many as `batch_size` has room for; None if that is no more."""
    finer = micro_batch_count(batch_size, 2 * steps)
    return finer if finer > steps else None


def micro_batch_count(images: int, steps: int) -> int:
    """Returns into how many micro-batches a batch is cut: `steps`, unless they get too small."""
    return max(1, min(steps, images // MICRO_BATCH_MIN))


def micro_batch_size(images: int, steps: int) -> int:
    """Returns how many images the largest micro-batch of a batch has."""
    return -(-images // micro_batch_count(images, steps))


def largest_batch(images: int, batch_size: int) -> int:
    """Returns how many images the largest batch of an epoch has.

    Args:
        images: that are trained on.
        batch_size: of the settings; batches of an epoch differ by one image at most.
    """
    batches = -(-images // batch_size)
    return -(-images // batches)
