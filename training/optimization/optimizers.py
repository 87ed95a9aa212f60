"""Optimizers by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from canopy_search.training.errors import UnknownNameError, unknown_name_message
from canopy_search.training.settings import OptimizerSettings

OPTIMIZERS: Mapping[str, type[Adam] | type[AdamW] | type[SGD]] = MappingProxyType(
    {"adam": Adam, "adamw": AdamW, "sgd": SGD}
)

# Device types with fused kernels for all three optimizers.
_FUSED_DEVICE_TYPES = frozenset({"cpu", "cuda", "mps"})


def check_optimizer(name: str) -> None:
    """Raises UnknownNameError unless there is an optimizer of that name."""
    if name not in OPTIMIZERS:
        raise UnknownNameError(unknown_name_message("optimizer", name, OPTIMIZERS))


def build_optimizer(
    model: nn.Module, settings: OptimizerSettings, device: torch.device
) -> Optimizer:
    """Builds the optimizer named in the settings, fused if the device supports it.

    Weight decay is a term of the gradient for ``adam`` and ``sgd``, decoupled for ``adamw``.

    Args:
        model: its parameters must already be on `device`.
        settings: name and parameters; only ``sgd`` reads ``momentum``.
        device: of the parameters.

    Raises:
        UnknownNameError: there is no optimizer of that name.
    """
    check_optimizer(settings.name)
    options: dict[str, Any] = {
        "lr": settings.lr,
        "weight_decay": settings.weight_decay,
        "fused": device.type in _FUSED_DEVICE_TYPES,
    }
    if settings.name == "sgd":
        options["momentum"] = settings.momentum
    return OPTIMIZERS[settings.name](model.parameters(), **options)


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Sets the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr
