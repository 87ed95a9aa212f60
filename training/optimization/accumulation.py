"""Gradient accumulation for batches that do not fit in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

# Batch normalisation fails on a single image whose features are 1×1, and learns nothing from it.
MICRO_BATCH_MIN = 2


@dataclass(frozen=True)
class Accumulation:
    """The number of micro-batches per batch from one epoch on.

    Attributes:
        from_epoch: counted from 1.
        steps: micro-batches per optimizer step.
    """

    from_epoch: int
    steps: int

    def __post_init__(self) -> None:
        if self.from_epoch < 1 or self.steps < 1:
            raise ValueError(f"expected from_epoch and steps of at least 1, found {self}")


def steps_at(accumulation: Sequence[Accumulation], epoch: int) -> int:
    """Returns the number of micro-batches per batch in `epoch`; 1 without accumulation.

    Args:
        accumulation: of one run, in the order of their epochs.
        epoch: counted from 1.
    """
    started = [change.steps for change in accumulation if change.from_epoch <= epoch]
    return started[-1] if started else 1


def cut_from(
    accumulation: Sequence[Accumulation], epoch: int, steps: int
) -> tuple[Accumulation, ...]:
    """Returns an accumulation with at least `steps` from `epoch` on, unchanged before it.

    Args:
        accumulation: of one run, in the order of their epochs.
        epoch: counted from 1.
        steps: more than the run has at `epoch`.
    """
    before = [change for change in accumulation if change.from_epoch < epoch]
    finer = [
        change for change in accumulation if change.from_epoch > epoch and change.steps > steps
    ]
    return (*before, Accumulation(epoch, steps), *finer)


def finer_steps(batch_size: int, steps: int) -> int | None:
    """Returns twice `steps`, or as many as `batch_size` allows; None if that is not more."""
    finer = micro_batch_count(batch_size, 2 * steps)
    return finer if finer > steps else None


def micro_batch_count(images: int, steps: int) -> int:
    """Returns the number of micro-batches of a batch: `steps`, unless they get too small."""
    return max(1, min(steps, images // MICRO_BATCH_MIN))


def micro_batch_size(images: int, steps: int) -> int:
    """Returns the number of images in the largest micro-batch of a batch."""
    return -(-images // micro_batch_count(images, steps))


def smallest_batch(images: int, batch_size: int) -> int:
    """Returns the number of images in the smallest batch of an epoch; see `largest_batch`."""
    return images // -(-images // batch_size)


def largest_batch(images: int, batch_size: int) -> int:
    """Returns the number of images in the largest batch of an epoch.

    Args:
        images: number of training images.
        batch_size: from the settings; batches of an epoch differ by at most one image.
    """
    batches = -(-images // batch_size)
    return -(-images // batches)
