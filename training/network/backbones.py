"""Backbones by name: torchvision's classification models and Canopy's small networks."""

import http.client
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import Inception3, SqueezeNet, get_model, get_model_weights
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from canopy_search.training.errors import (
    SettingsError,
    TrainingError,
    UnknownNameError,
    unknown_name_message,
)
from canopy_search.training.network.small_nets import SMALL_NETS

Weights = Literal["none", "imagenet"]


class PretrainedWeightsError(TrainingError):
    """ImageNet weights cannot be downloaded or read."""

    exit_status = 1


@cache
def backbone_names() -> tuple[str, ...]:
    """Returns the names of all backbones, Canopy's small networks first."""
    return (*SMALL_NETS, *torchvision.models.list_models(module=torchvision.models))


def check_backbone(name: str) -> None:
    """Raises UnknownNameError unless there is a backbone of that name; builds nothing."""
    if name not in backbone_names():
        raise UnknownNameError(unknown_name_message("backbone", name, backbone_names()))


def check_weights(name: str, weights: Weights) -> None:
    """Checks that a backbone can start from these weights.

    Raises:
        UnknownNameError: there is no backbone of that name.
        SettingsError: it has no ImageNet weights.
    """
    check_backbone(name)
    if weights == "imagenet" and name in SMALL_NETS:
        raise SettingsError(
            f"backbone {name!r} has no ImageNet weights; set training.weights to none or choose "
            "one of torchvision's backbones"
        )


def build_backbone(
    name: str, *, labels: int, image_px: int, weights: Weights, seed: int
) -> nn.Module:
    """Builds a network from images, (batch, 3, image_px, image_px), to logits, (batch, labels).

    Images are expected to be normalised with ImageNet's mean and standard deviation. The logits are
    float32 under autocast too; bfloat16 logits would have ties and distort the ranking behind AP.

    Args:
        name: one of `backbone_names`.
        labels: number of logits.
        image_px: side of the images.
        weights: ``imagenet`` loads torchvision's best weights, with a download the first time, and
            replaces the network's head.
        seed: of all random weights; the process's random generators are not changed.

    Raises:
        UnknownNameError: there is no backbone of that name.
        SettingsError: the backbone cannot be built for this image size or has no such weights.
        PretrainedWeightsError: the weights cannot be downloaded or read.
    """
    check_weights(name, weights)
    with _seeded(seed):
        try:
            if weights == "imagenet":
                return _with_float32_head(_pretrained(name, image_px), labels, keep_weights=False)
            return _with_float32_head(_untrained(name, labels, image_px), labels, keep_weights=True)
        except (AssertionError, ValueError) as error:
            raise _size_error(name, labels, image_px, error) from error


def check_backbone_fits(name: str, *, labels: int, image_px: int) -> None:
    """Checks that a backbone accepts an image size, without loading weights or computing.

    It runs the forward pass of a training step on torch's meta device, where tensors have shapes
    but no values: about half a second.

    Raises:
        UnknownNameError: there is no backbone of that name.
        SettingsError: the backbone does not accept this size; the message names one that fits.
    """
    check_backbone(name)
    try:
        _run_on_meta_device(name, labels, image_px)
    except (AssertionError, ValueError, RuntimeError) as error:
        raise _size_error(name, labels, image_px, error) from error


def meta_backbone(name: str, *, labels: int, image_px: int) -> nn.Module:
    """Returns a backbone on torch's meta device, where tensors have shapes but no values.

    Raises:
        AssertionError, ValueError: it cannot be built for this image size.
    """
    # RegNets read tensor values while they are built, which the meta device does not have.
    with _seeded(0), torch.device("cpu" if name.startswith("regnet_") else "meta"):
        model = _untrained(name, labels, image_px)
    return model.to("meta")


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


def _untrained(name: str, labels: int, image_px: int) -> nn.Module:
    if name in SMALL_NETS:
        return SMALL_NETS[name](labels)
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = image_px
    elif name == "maxvit_t":
        options["input_size"] = (image_px, image_px)
    elif name in {"googlenet", "inception_v3"}:
        # Otherwise they also return logits of inner layers in training. The initialisation follows
        # the papers, and torchvision warns unless it is set explicitly.
        options = {"aux_logits": False, "init_weights": True}
    model: nn.Module = get_model(name, weights=None, num_classes=labels, **options)
    return model


def _pretrained(name: str, image_px: int) -> nn.Module:
    """Returns the network with ImageNet's weights and its head for ImageNet's 1000 classes."""
    weights = get_model_weights(name).DEFAULT
    # torchvision fixes the image size for the weights of these two, although only ViT's position
    # embeddings depend on it, and those can be interpolated.
    model = None
    if name.startswith("vit_") or name == "maxvit_t":
        model = _untrained(name, len(weights.meta["categories"]), image_px)
    progress = sys.stderr.isatty()
    try:
        if model is None:
            model = get_model(name, weights=weights, progress=progress)
        else:
            state = weights.get_state_dict(progress=progress, check_hash=True)
            if isinstance(model, VisionTransformer):
                state = interpolate_embeddings(image_px, model.patch_size, state)
            model.load_state_dict(state)
    except (
        OSError,
        http.client.HTTPException,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise PretrainedWeightsError(
            f"ImageNet weights of {name} could not be loaded from {weights.url}: {error}; "
            f"set training.weights to none, or copy that file, undamaged, to "
            f"{Path(torch.hub.get_dir()) / 'checkpoints'}"
        ) from error
    if isinstance(model, Inception3):
        model.aux_logits = False
        model.AuxLogits = None
    return model


def _with_float32_head(model: nn.Module, labels: int, *, keep_weights: bool) -> nn.Module:
    """Replaces a network's head by a float32 head for these labels."""
    name, old = _head(model)
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = Float32Linear(old.in_features, labels, bias=old.bias is not None)
    else:
        new = Float32Conv2d(old.in_channels, labels, kernel_size=1)
    if keep_weights:
        new.load_state_dict(old.state_dict())
    model.set_submodule(name, new)
    if isinstance(model, SqueezeNet):
        # It ends in a ReLU, so no logit would be negative and no probability below 0.5.
        model.classifier[2] = nn.Identity()
    return model


def _head(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Returns the name of the layer that outputs the logits, and the layer."""
    if isinstance(model, SqueezeNet):
        return "classifier.1", model.classifier[1]
    linears = [
        (name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)
    ]
    return linears[-1]


def _run_on_meta_device(name: str, labels: int, image_px: int) -> None:
    # Two images, because batch normalisation fails on one in training if features are 1×1.
    model = meta_backbone(name, labels=labels, image_px=image_px)
    model(torch.empty(2, 3, image_px, image_px, device="meta"))


def _size_error(name: str, labels: int, image_px: int, reason: Exception) -> SettingsError:
    fitting = _next_size_that_fits(name, labels, image_px)
    remedy = f"{fitting} px would fit" if fitting else "choose another backbone"
    return SettingsError(
        f"backbone {name!r} does not take images of {image_px} px; {remedy} "
        f"({str(reason).splitlines()[0]})"
    )


def _next_size_that_fits(name: str, labels: int, image_px: int) -> int | None:
    for candidate in range(image_px // 16 * 16 + 16, 513, 16):
        try:
            _run_on_meta_device(name, labels, candidate)
        except (AssertionError, ValueError, RuntimeError):
            continue
        return candidate
    return None


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds the CPU's random generator, which initialises networks, and restores it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
