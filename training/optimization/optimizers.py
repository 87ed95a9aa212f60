"""Optimizers by name, and the groups of parameters that they treat alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from canopy_search.training.errors import UnknownNameError, unknown_name_message
from canopy_search.training.settings import OptimizerSettings, TrainingSettings

OPTIMIZERS: Mapping[str, type[Adam] | type[AdamW] | type[SGD]] = MappingProxyType(
    {"adam": Adam, "adamw": AdamW, "sgd": SGD}
)

# Device types with fused kernels for all three optimizers.
_FUSED_DEVICE_TYPES = frozenset({"cpu", "cuda", "mps"})


def check_optimizer(name: str) -> None:
    """Raises UnknownNameError unless there is an optimizer of that name."""
    if name not in OPTIMIZERS:
        raise UnknownNameError(unknown_name_message("optimizer", name, OPTIMIZERS))


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Parameters that an optimizer treats alike.

    Attributes:
        parameters: of the network.
        lr_factor: factor of their learning rate.
        decays: whether they have weight decay.
    """

    parameters: tuple[nn.Parameter, ...]
    lr_factor: float = 1.0
    decays: bool = True


def parameter_groups(
    parameters: Iterable[nn.Parameter], depths: Iterable[int], settings: TrainingSettings
) -> list[ParameterGroup]:
    """Returns the groups of a network's parameters, a single one unless the settings need more.

    Which parameters are in a group does not depend on `layer_decay` where frozen epochs may be
    shared by runs that differ in it, since an optimizer's state is stored by group.

    Args:
        parameters: of the network, in its order.
        depths: for each of them the number of layers above it, 0 for the head.
        settings: `head_lr_factor`, `layer_decay` and whether weight decay excludes norms and
            biases.

    References:
        `layer_decay`: Clark et al. 2020, ELECTRA, https://arxiv.org/abs/2003.10555
    """
    by_layer = settings.layer_decay != 1 or settings.freeze_epochs > 0
    has_own_head = by_layer or settings.head_lr_factor != 1
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for parameter, depth in zip(parameters, depths, strict=True):
        layer = depth if by_layer else int(has_own_head and depth > 0)
        decays = parameter.ndim > 1 or not settings.optimizer.excludes_from_decay
        groups.setdefault((layer, decays), []).append(parameter)
    return [
        ParameterGroup(
            tuple(group),
            settings.layer_decay**layer if layer else settings.head_lr_factor,
            decays,
        )
        for (layer, decays), group in groups.items()
    ]


def build_optimizer(
    groups: Sequence[ParameterGroup], settings: OptimizerSettings, device: torch.device
) -> Optimizer:
    """Builds the optimizer named in the settings, fused if the device supports it.

    Weight decay is a term of the gradient for ``adam`` and ``sgd``, decoupled for ``adamw``.

    Args:
        groups: from `parameter_groups`; the parameters must already be on `device`.
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
    parameters: list[dict[str, Any]] = [
        {"params": list(group.parameters), **({} if group.decays else {"weight_decay": 0.0})}
        for group in groups
    ]
    return OPTIMIZERS[settings.name](parameters, **options)


def set_learning_rate(optimizer: Optimizer, groups: Sequence[ParameterGroup], lr: float) -> None:
    """Sets the learning rate of all parameters.

    Args:
        optimizer: from `build_optimizer` with these groups.
        groups: whose factors apply; a restored state may come from a run with others.
        lr: learning rate of a factor of 1.
    """
    for own, group in zip(optimizer.param_groups, groups, strict=True):
        own["lr"] = lr * group.lr_factor
