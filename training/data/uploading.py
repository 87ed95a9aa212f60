"""Copies batches from the host's memory to the device."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


def uploaded(batches: Iterable[Pair], device: torch.device) -> Iterator[Pair]:
    """Yields batches on a device.

    On a CUDA device a batch is copied from pinned memory, on a separate stream, while the previous
    batch is trained on; so the device's memory holds one additional batch. Otherwise a batch is
    copied on request; on the CPU nothing is copied.

    Args:
        batches: pixels and targets in the host's memory, pinned if the device is a GPU.
        device: the target device.
    """
    if device.type == "cuda":
        return _copied_ahead(batches, device)
    return ((pixels.to(device), targets.to(device)) for pixels, targets in batches)


_CUDA: Any = torch.cuda  # its classes have no type stubs


@cache
def _copying_stream(device: torch.device) -> torch.cuda.Stream:
    """Returns the stream of all copies, since torch reserves memory for each stream separately."""
    stream: torch.cuda.Stream = _CUDA.Stream(device)
    return stream


def _copied_ahead(batches: Iterable[Pair], device: torch.device) -> Iterator[Pair]:
    copying = _copying_stream(device)
    ahead: tuple[Pair, torch.cuda.Event] | None = None
    for pixels, targets in batches:
        with torch.cuda.stream(copying):
            pair = (pixels.to(device, non_blocking=True), targets.to(device, non_blocking=True))
            copied = _CUDA.Event()
            copied.record(copying)
        if ahead is not None:
            yield _usable(*ahead, device)
        ahead = pair, copied
    if ahead is not None:
        yield _usable(*ahead, device)


def _usable(pair: Pair, copied: torch.cuda.Event, device: torch.device) -> Pair:
    """Makes the training stream wait for a copy, and the allocator for the training stream."""
    training = torch.cuda.current_stream(device)
    training.wait_event(copied)
    for tensor in pair:
        tensor.record_stream(training)
    return pair
