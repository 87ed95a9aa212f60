"""Fused CPU optimizers that update channels-last weights in place, without copying them.

Torch's kernels need contiguous memory. For a channels-last convolution they copy weights, gradient
and state to contiguous memory and back, which takes longer than the update itself. With permuted
dimensions the same memory is contiguous, and the update is elementwise, so their order is
irrelevant.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

# Floats in an AVX-512 register, twice those of AVX2. A remainder that does not fill a register is
# updated one by one, with different last bits, so permuting dimensions would change the result.
_VECTOR = 16


class ContiguousAdam(Adam):
    """`torch.optim.Adam` that does not copy channels-last weights."""

    def step(self, closure: Any = None) -> Any:
        """See `torch.optim.Adam.step`."""
        with _made_contiguous(self):
            return super().step(closure)


class ContiguousAdamW(AdamW):
    """`torch.optim.AdamW` that does not copy channels-last weights."""

    def step(self, closure: Any = None) -> Any:
        """See `torch.optim.AdamW.step`."""
        with _made_contiguous(self):
            return super().step(closure)


class ContiguousSGD(SGD):
    """`torch.optim.SGD` that does not copy channels-last weights."""

    def step(self, closure: Any = None) -> Any:
        """See `torch.optim.SGD.step`."""
        with _made_contiguous(self):
            return super().step(closure)


@contextmanager
def _made_contiguous(optimizer: Optimizer) -> Iterator[None]:
    """Permutes channels-last weights, gradients and state to the order of their memory."""
    weights = [
        weight
        for group in optimizer.param_groups
        for weight in group["params"]
        if _is_copied(weight) and weight.grad is not None and _is_copied(weight.grad)
    ]
    for weight in weights:
        _permute(optimizer, weight, (0, 2, 3, 1))
    try:
        yield
    finally:
        for weight in weights:
            _permute(optimizer, weight, (0, 3, 1, 2))


def _is_copied(tensor: Tensor) -> bool:
    return (
        tensor.dim() == 4
        and tensor.numel() % _VECTOR == 0
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def _permute(optimizer: Optimizer, weight: Tensor, order: tuple[int, ...]) -> None:
    """Permutes the dimensions of a weight, its gradient and its state; copies nothing."""
    gradient, weight.grad = weight.grad, None
    weight.data = weight.data.permute(order)
    weight.grad = None if gradient is None else gradient.permute(order)
    state = optimizer.state.get(weight, {})
    for name, value in state.items():
        if isinstance(value, Tensor) and value.dim() == weight.dim():
            state[name] = value.permute(order)
