"""Backbones by name: torchvision's classification models and Canopy's small networks."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, cast

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import (
    DenseNet,
    GoogLeNet,
    Inception3,
    SqueezeNet,
    get_model,
    get_model_weights,
)
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from canopy_search.training.errors import (
    SettingsError,
    UnknownNameError,
    unknown_name_message,
)
from canopy_search.training.network.pretrained import PretrainedWeightsError, pretrained_state
from canopy_search.training.network.small_nets import SMALL_NETS

Weights = Literal["none", "imagenet"]

# torchvision's DenseNets name these layers differently from the published weights.
_DENSENET_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


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
            network = _network(name, labels, image_px, weights)
            return _with_float32_head(network, labels, keep_weights=True)
        except (AssertionError, ValueError) as error:
            raise _size_error(name, labels, image_px, error) from error


def backbone_to_fill(name: str, *, labels: int, image_px: int, weights: Weights) -> nn.Module:
    """Builds a network like `build_backbone`, to load the weights of a trained one.

    Args:
        name: one of `backbone_names`.
        labels: number of logits.
        image_px: side of the images.
        weights: that the training started from; not loaded, but networks from ImageNet's weights
            may compute differently.

    Raises:
        UnknownNameError: there is no backbone of that name.
        SettingsError: the backbone cannot be built for this image size or has no such weights.
    """
    check_weights(name, weights)
    with _seeded(0):
        try:
            network = _without_inner_logits(_network(name, labels, image_px, weights))
            return _with_float32_head(network, labels, keep_weights=False)
        except (AssertionError, ValueError) as error:
            raise _size_error(name, labels, image_px, error) from error


def start_head_at(model: nn.Module, logits: Tensor) -> None:
    """Sets the biases of a network's head, the logits of an image without features.

    Args:
        model: from `build_backbone`.
        logits: (labels,), float32.

    Raises:
        SettingsError: its head has no bias.
    """
    for _, head in heads_of(model):
        if head.bias is None:
            raise SettingsError(
                f"training.head_bias: priors requested, but the head of {type(model).__name__} has "
                "no bias; set it to default"
            )
        with torch.no_grad():
            head.bias.copy_(logits)


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Loads the weights of the same network, saved as a plain mapping.

    Such a mapping lacks the versions of the layers, without which MNASNet refuses it; they are
    those of `network`.

    Raises:
        RuntimeError: names or shapes differ.
    """
    state = network.state_dict()
    state.clear()
    state.update(weights)
    network.load_state_dict(state)


def accepts_single_image(name: str, *, labels: int, image_px: int) -> bool:
    """Whether a backbone that accepts an image size can be trained on a batch of one image.

    Batch normalisation cannot if its features are 1×1, because they have no variance.
    """
    try:
        _run_on_meta_device(name, labels, image_px, images=1)
    except ValueError:
        return False
    return True


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
        model = _network(name, labels, image_px, "none")
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


def _network(name: str, classes: int, image_px: int, weights: Weights) -> nn.Module:
    """Returns a network with random weights, and everything else as with `weights`.

    What a network computes depends on more than its state dict, so this is the only place that
    builds one. The options are those that torchvision sets itself with pretrained weights.
    """
    if name in SMALL_NETS:
        return SMALL_NETS[name](classes)
    is_pretrained = weights == "imagenet"
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = image_px
    elif name == "maxvit_t":
        options["input_size"] = (image_px, image_px)
    elif name.startswith("vgg"):
        options["init_weights"] = not is_pretrained
    elif name in {"googlenet", "inception_v3"}:
        # Logits of inner layers only where the weights have them. The initialisation follows the
        # papers, and torchvision warns unless it is set explicitly.
        options = {
            "transform_input": is_pretrained,
            "aux_logits": is_pretrained,
            "init_weights": not is_pretrained,
        }
    model: nn.Module = get_model(name, weights=None, num_classes=classes, **options)
    return _with_repeatable_pools(model)


def _pretrained(name: str, image_px: int) -> nn.Module:
    """Returns the network with ImageNet's weights and its head for ImageNet's 1000 classes."""
    weights = get_model_weights(name).DEFAULT
    # torchvision fixes the image size for the weights of MaxViT and ViT, although only ViT's
    # position embeddings depend on it, and those can be interpolated.
    model = _network(name, len(weights.meta["categories"]), image_px, "imagenet")
    state = pretrained_state(weights)
    try:
        if isinstance(model, VisionTransformer):
            state = interpolate_embeddings(image_px, model.patch_size, state)
        elif isinstance(model, DenseNet):
            state = {_DENSENET_LAYER.sub(r"\1\2", key): value for key, value in state.items()}
        model.load_state_dict(state)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise PretrainedWeightsError(
            f"{weights.url} does not contain the ImageNet weights of {name}: {reason}; set "
            "training.weights to none"
        ) from error
    return _without_inner_logits(model)


def _without_inner_logits(model: nn.Module) -> nn.Module:
    """Removes the layers with which networks return logits of inner layers in training."""
    if isinstance(model, GoogLeNet):
        model.aux_logits, model.aux1, model.aux2 = False, None, None
    elif isinstance(model, Inception3):
        model.aux_logits, model.AuxLogits = False, None
    return model


def _with_repeatable_pools(model: nn.Module) -> nn.Module:
    """Replaces the pools of AlexNet and VGG; those to one pixel are means already."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size not in {1, (1, 1)}:
            model.set_submodule(name, RepeatableAvgPool2d(layer.output_size))
    return model


def _with_float32_head(model: nn.Module, labels: int, *, keep_weights: bool) -> nn.Module:
    """Replaces a network's head by a float32 head for these labels."""
    [(name, old)] = heads_of(model)
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


def heads_of(model: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """Returns names and layers of what outputs the logits."""
    if isinstance(model, SqueezeNet):
        return [("classifier.1", model.classifier[1])]
    linears: list[tuple[str, nn.Linear | nn.Conv2d]] = [
        (name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)
    ]
    return linears[-1:]


def _run_on_meta_device(name: str, labels: int, image_px: int, images: int = 2) -> None:
    model = meta_backbone(name, labels=labels, image_px=image_px)
    model(torch.empty(images, 3, image_px, image_px, device="meta"))


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
