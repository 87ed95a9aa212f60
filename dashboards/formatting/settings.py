"""A setting in words, and its differences from the baseline."""

import re
from collections.abc import Mapping
from typing import Any

from canopy_search.dashboards.formatting.values import value_text
from canopy_search.dashboards.study.settings import differing

_LOSSES = {
    "bce": "BCE",
    "weighted_bce": "BCE weighted by the classes' priors",
    "focal": "focal loss",
    "focal_bce": "focal loss + BCE",
    "asymmetric": "asymmetric loss",
}
_NETWORKS = {"resnet": "ResNet", "densenet": "DenseNet", "vgg": "VGG"}
_GAMMA = "gamma"
_CONSTANT = "constant learning rate"

Params = Mapping[str, Any]


def value_words(name: str, value: Any) -> str:
    """Returns a parameter's value in its usual spelling: ``ResNet18``, ``.80``."""
    if name == "loss":
        return _LOSSES.get(value, str(value))
    if name == "backbone":
        found = re.fullmatch(r"([a-z]+)(\d+)", str(value))
        family = _NETWORKS.get(found[1]) if found else None
        return f"{family}{found[2]}" if found and family else str(value)
    if name == _GAMMA and isinstance(value, float) and 0 < value < 1:
        digits = value_text(value).removeprefix("0.")
        return f".{digits:0<2}" if digits.isdecimal() else value_text(value)
    return value_text(value)


def param_words(name: str, value: Any) -> str:
    """Returns a parameter in words; losses and backbones without the parameter's name."""
    if name == _GAMMA:
        return _CONSTANT if value == 1 else f"ExponentialLR, gamma {value_words(name, value)}"
    words = value_words(name, value)
    return words if name in {"loss", "backbone"} else f"{name} {words}"


def setting_words(params: Params) -> str:
    """Returns a setting as a heading."""
    return ", ".join(param_words(name, value) for name, value in params.items())


def difference_words(params: Params, base: Params) -> str:
    """Returns a setting's differences from the baseline as a heading."""
    return setting_words(_differing(params, base)) or "the same setting"


def intent_words(params: Params, base: Params) -> str:
    """Returns a setting's differences from the baseline as a sentence.

    For example: ``ResNet152 instead of ResNet18, with gamma .80.``
    """
    differing = _differing(params, base)
    words = [n for n, value in differing.items() if isinstance(value, str) and n in base]
    numbers = [name for name in differing if name not in words]
    replaced = [
        f"{param_words(name, differing[name])} instead of {value_words(name, base[name])}"
        for name in words
    ]
    if numbers == [_GAMMA] and not words and differing[_GAMMA] != 1 and base.get(_GAMMA) == 1:
        gamma = value_words(_GAMMA, differing[_GAMMA])
        return f"ExponentialLR with gamma {gamma} instead of a {_CONSTANT}."
    changed = " and ".join(_number_words(name, differing[name], base) for name in numbers)
    if not differing:
        return "The same setting again."
    if not numbers:
        return f"{' and '.join(replaced)}."
    return f"{' and '.join(replaced)}, with {changed}." if replaced else f"With {changed}."


def base_words(training: Mapping[str, Any]) -> str:
    """Returns the settings common to all runs, including the baseline, as a sentence.

    Args:
        training: the training settings.
    """
    optimizer = training.get("optimizer", {})
    parts = [
        f"{training['epochs']} epochs" if "epochs" in training else "",
        f"batches of {training['batch_size']}" if "batch_size" in training else "",
        f"{optimizer['name']} at {value_text(optimizer['lr'])}" if "lr" in optimizer else "",
        f"weights {training['weights']}" if "weights" in training else "",
    ]
    known = ", ".join(part for part in parts if part)
    return f"The setting to improve{f': {known}' if known else ''}."


def _differing(params: Params, base: Params) -> dict[str, Any]:
    changed = differing([params, base])
    return {name: value for name, value in params.items() if name in changed}


def _number_words(name: str, value: Any, base: Params) -> str:
    if name != _GAMMA:
        was = f" instead of {value_words(name, base[name])}" if name in base else ""
        return f"{param_words(name, value)}{was}"
    return f"a {_CONSTANT}" if value == 1 else f"gamma {value_words(name, value)}"
