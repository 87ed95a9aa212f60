"""The exponential moving average of a network's weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

_Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Returns a copy of a network that averages its weights: ``decay · average + (1 - decay) · w``.

    It starts as the weights of its first update. Statistics of batch normalisation are averaged
    with the weights that they belong to. Whole numbers, such as the positions of a transformer's
    window, are copied: torch's own average would round them down.

    Args:
        model: the network, on its device.
        decay: of the average in each update.

    References:
        `torch.optim.swa_utils.AveragedModel` with ``get_ema_multi_avg_fn`` and ``use_buffers``.
    """
    average_of: Any = get_ema_multi_avg_fn  # torch does not annotate it
    average_floats = average_of(decay)

    @torch.no_grad()
    def average(averages: _Tensors, weights: _Tensors, count: Tensor | int) -> None:
        if averages[0].is_floating_point():
            average_floats(averages, weights, count)
        else:
            for each, weight in zip(averages, weights, strict=True):
                each.copy_(weight)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
