"""Fused optimizers on a CPU that update channels-last weights in place, without copying them.

Torch's kernels want contiguous memory. Of a convolution in the channels-last format they copy
weights, gradient and state into it and back, which takes longer than the update itself. The same
memory is contiguous under other names of its dimensions, and an update looks at each number alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

# Numbers in a vector register of AVX-512, and twice those of AVX2. What does not fill a register is
# updated one by one, with other last bits, and would be another number under another name.
_VECTOR = 16


class ContiguousAdam(Adam):
    """`torch.optim.Adam` that copies no channels-last weights."""

    def step(self, closure: Any = None) -> Any:
        """See `torch.optim.Adam.step`."""
        with _made_contiguous(self):
            return super().step(closure)


class ContiguousAdamW(AdamW):
    """`torch.optim.AdamW` that copies no channels-last weights."""

    def step(self, closure: Any = None) -> Any:
        """See `torch.optim.AdamW.step`."""
        with _made_contiguous(self):
            return super().step(closure)


class ContiguousSGD(SGD):
    """`torch.optim.SGD` that copies no channels-last weights."""

    def step(self, closure: Any = None) -> Any:
        """See `torch.optim.SGD.step`."""
        with _made_contiguous(self):
            return super().step(closure)


@contextmanager
def _made_contiguous(optimizer: Optimizer) -> Iterator[None]:
    """Puts the dimensions of channels-last weights, gradients and state in memory's order."""
    weights = [
        weight
        for group in optimizer.param_groups
        for weight in group["params"]
        if _is_copied(weight) and weight.grad is not None and _is_copied(weight.grad)
    ]
    for weight in weights:
        _rename(optimizer, weight, (0, 2, 3, 1))
    try:
        yield
    finally:
        for weight in weights:
            _rename(optimizer, weight, (0, 3, 1, 2))


def _is_copied(tensor: Tensor) -> bool:
    return (
        tensor.dim() == 4
        and tensor.numel() % _VECTOR == 0
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def _rename(optimizer: Optimizer, weight: Tensor, order: tuple[int, ...]) -> None:
    """Gives a weight, its gradient and its state another order of dimensions; moves no number."""
    gradient, weight.grad = weight.grad, None
    weight.data = weight.data.permute(order)
    weight.grad = None if gradient is None else gradient.permute(order)
    state = optimizer.state.get(weight, {})
    for name, value in state.items():
        if isinstance(value, Tensor) and value.dim() == weight.dim():
            state[name] = value.permute(order)
