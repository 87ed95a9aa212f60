"""Layers as Canopy trains them: exact logits, repeatable pools, blocks that need less memory."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 under autocast too."""

    def forward(self, features: Tensor) -> Tensor:
        """Returns (..., out_features), float32."""
        with torch.autocast(features.device.type, enabled=False):
            return functional.linear(features.float(), self.weight, self.bias)


class Float32Conv2d(nn.Conv2d):
    """A convolution that computes in float32 under autocast too."""

    def forward(self, features: Tensor) -> Tensor:
        """Returns (batch, out_channels, height, width), float32."""
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float())


class RepeatableAvgPool2d(nn.AdaptiveAvgPool2d):
    """Adaptive average pooling that torch's deterministic algorithms do not refuse on a GPU.

    There the gradient of torch's own kernel is different each time. With deterministic algorithms
    each output is the mean of its slice instead: equal up to rounding, and slower.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Returns (batch, channels, *output_size)."""
        if features.is_cuda and torch.are_deterministic_algorithms_enabled():
            return self.means_of_slices(features)
        return super().forward(features)

    def means_of_slices(self, features: Tensor) -> Tensor:
        """Returns (batch, channels, *output_size), the mean of each slice."""
        parts = cast(tuple[int, int], self.output_size)
        rows, columns = (
            [(at * size // count, -(-(at + 1) * size // count)) for at in range(count)]
            for size, count in zip(features.shape[-2:], parts, strict=True)
        )
        means = [
            features[..., top:bottom, left:right].mean((-2, -1))
            for top, bottom in rows
            for left, right in columns
        ]
        return torch.stack(means, dim=-1).view(*features.shape[:-2], *parts)


def checkpoint_blocks(network: nn.Module) -> None:
    """Makes the backward pass compute blocks again, so that their inner tensors are not kept.

    Every number stays the same. Blocks are layers of the same class in a row, at the outermost
    level where a network has them, such as the residual blocks of each stage of a ResNet.

    References:
        Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost,
        https://arxiv.org/abs/1604.06174
    """
    children = list(network.children())
    if isinstance(network, nn.Sequential | nn.ModuleList):
        classes = [type(child) for child in children if any(child.children())]
        for child in children:
            if classes.count(type(child)) > 1:
                child.__class__ = _checkpointed(type(child))
            else:
                checkpoint_blocks(child)
        return
    for child in children:
        checkpoint_blocks(child)


def _checkpointed(kind: type[nn.Module]) -> type[nn.Module]:
    """Returns a subclass whose forward pass keeps nothing but its input for the backward pass."""

    def forward(block: nn.Module, *arguments: Any, **options: Any) -> Any:
        plain = partial(kind.forward, block)
        if not (block.training and torch.is_grad_enabled()):
            return plain(*arguments, **options)
        return checkpoint(
            plain,
            *arguments,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _copied_buffers(block)),
            **options,
        )

    return type(kind.__name__, (kind,), {"forward": forward})


@contextmanager
def _copied_buffers(block: nn.Module) -> Iterator[None]:
    """Keeps batch normalisation from counting a batch twice."""
    buffers = [
        (layer, name, buffer)
        for layer in block.modules()
        for name, buffer in layer.named_buffers(recurse=False)
    ]
    for layer, name, buffer in buffers:
        setattr(layer, name, buffer.clone())
    try:
        yield
    finally:
        for layer, name, buffer in buffers:
            setattr(layer, name, buffer)
