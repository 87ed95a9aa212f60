"""Backbones by name: networks of torchvision and timm, and Canopy's small ones."""

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import (
    DenseNet,
    GoogLeNet,
    Inception3,
    SqueezeNet,
    get_model,
    get_model_weights,
)
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from canopy_search.filestore.messages import first_line
from canopy_search.training.data.normalise import IMAGENET, PixelScale
from canopy_search.training.errors import (
    SettingsError,
    UnknownNameError,
    unknown_name_message,
)
from canopy_search.training.network.layers import (
    Float32Conv2d,
    Float32Linear,
    RepeatableAvgPool2d,
)
from canopy_search.training.network.pretrained import (
    PublishedFile,
    pretrained_state,
    torchvision_file,
    unusable,
)
from canopy_search.training.network.small_nets import SMALL_NETS
from canopy_search.training.network.timm_models import (
    adapted_timm_state,
    check_timm,
    is_timm,
    timm_heads,
    timm_network,
    timm_pixel_scale,
    timm_weights,
)
from canopy_search.training.network.weights_files import Fit, fit_of, read_weights
from canopy_search.training.settings import is_weights_file

# torchvision's DenseNets name these layers differently from the published weights.
_DENSENET_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


@cache
def backbone_names() -> tuple[str, ...]:
    """Returns the names of all backbones but timm's, Canopy's small networks first."""
    return (*SMALL_NETS, *torchvision.models.list_models(module=torchvision.models))


def check_backbone(name: str) -> None:
    """Checks that there is a backbone of that name; builds nothing.

    Raises:
        UnknownNameError: there is none.
        SettingsError: it is one of timm's, which is not installed.
    """
    if is_timm(name):
        check_timm(name)
    elif name not in backbone_names():
        raise UnknownNameError(unknown_name_message("backbone", name, backbone_names()))


def check_weights(name: str, weights: str) -> None:
    """Checks that a backbone can start from these weights; reads no file.

    Raises:
        UnknownNameError: there is no backbone of that name.
        SettingsError: it has no ImageNet weights, or it is one of timm's, which is not installed.
    """
    check_backbone(name)
    if weights == "imagenet" and published_weights(name) is None:
        raise SettingsError(
            f"backbone {name!r} has no published weights; set training.weights to none or to a "
            "file, or choose another backbone"
        )


def published_weights(name: str) -> PublishedFile | None:
    """Returns where the weights published for a backbone are; None if there are none.

    Raises:
        SettingsError: it is one of timm's, which is not installed.
    """
    if is_timm(name):
        return timm_weights(name)
    return None if name in SMALL_NETS else torchvision_file(get_model_weights(name).DEFAULT)


def pixel_scale(name: str) -> PixelScale:
    """Returns the mean and standard deviation of the pixels that a backbone expects.

    Raises:
        SettingsError: it is one of timm's, which is not installed.
    """
    return timm_pixel_scale(name) if is_timm(name) else IMAGENET


def build_backbone(name: str, *, labels: int, image_px: int, weights: str, seed: int) -> nn.Module:
    """Builds a network from images, (batch, 3, image_px, image_px), to logits, (batch, labels).

    Images are expected to be normalised with `pixel_scale`. The logits are float32 under autocast
    too; bfloat16 logits would have ties and distort the ranking behind AP.

    Args:
        name: one of `backbone_names`, or ``timm/`` and a name of timm's.
        labels: number of logits.
        image_px: side of the images.
        weights: ``imagenet`` loads the best weights that are published for the network, with a
            download the first time; the path or URL of a file those of its tensors that fit. The
            head is new.
        seed: of all random weights; the process's random generators are not changed.

    Raises:
        UnknownNameError: there is no backbone of that name.
        SettingsError: the backbone cannot be built for this image size or has no such weights.
        PretrainedWeightsError: the weights cannot be downloaded or read.
        WeightsFileError: the file cannot be read, or is of another network.
    """
    check_weights(name, weights)
    with _seeded(seed):
        try:
            if weights == "imagenet":
                return _with_float32_head(
                    _pretrained(name, labels, image_px), labels, keep_weights=False
                )
            network = _network(name, labels, image_px, weights)
            network = _with_float32_head(network, labels, keep_weights=True)
        except (AssertionError, ValueError) as error:
            raise _size_error(name, labels, image_px, error) from error
    if is_weights_file(weights):
        load_weights(
            network, {**network.state_dict(), **_fit(name, network, weights, image_px).taken}
        )
    return network


def weights_fit(name: str, weights: str, *, labels: int, image_px: int) -> Fit:
    """Returns which tensors of a weights file a backbone takes, without building it.

    Args:
        name: of a backbone that accepts the image size.
        weights: path or URL of the file.
        labels: number of logits.
        image_px: side of the images.

    Raises:
        WeightsFileError: the file cannot be read, or is of another network.
    """
    network = meta_backbone(name, labels=labels, image_px=image_px)
    return _fit(name, network, weights, image_px)


def backbone_to_fill(name: str, *, labels: int, image_px: int, weights: str) -> nn.Module:
    """Builds a network like `build_backbone`, to load the weights of a trained one.

    Args:
        name: see `build_backbone`.
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


def _network(name: str, classes: int, image_px: int, weights: str) -> nn.Module:
    """Returns a network with random weights, and everything else as with `weights`.

    What a network computes depends on more than its state dict, so this is the only place that
    builds one. The options are those that torchvision sets itself with pretrained weights.
    """
    if name in SMALL_NETS:
        return SMALL_NETS[name](classes)
    if is_timm(name):
        return _with_repeatable_pools(timm_network(name, classes, image_px, is_pretrained=False))
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


def _pretrained(name: str, labels: int, image_px: int) -> nn.Module:
    """Returns the network with published weights; its head has to be replaced."""
    if is_timm(name):
        return _with_repeatable_pools(timm_network(name, labels, image_px, is_pretrained=True))
    weights = get_model_weights(name).DEFAULT
    # torchvision fixes the image size for the weights of MaxViT and ViT, although only ViT's
    # position embeddings depend on it, and those can be interpolated.
    model = _network(name, len(weights.meta["categories"]), image_px, "imagenet")
    state = pretrained_state(weights)
    try:
        model.load_state_dict(_adapted(state, model, image_px))
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise unusable(weights, error) from error
    return _without_inner_logits(model)


def _adapted(state: dict[str, Any], model: nn.Module, image_px: int) -> dict[str, Any]:
    """Returns weights with the names of this network's layers, and embeddings of its image size."""
    if isinstance(model, VisionTransformer):
        return dict(interpolate_embeddings(image_px, model.patch_size, OrderedDict(state)))
    if isinstance(model, DenseNet):
        return {_DENSENET_LAYER.sub(r"\1\2", key): value for key, value in state.items()}
    return adapted_timm_state(state, model)


def _fit(name: str, network: nn.Module, weights: str, image_px: int) -> Fit:
    """Returns which tensors of a weights file a network takes; raises as `weights_fit`."""
    state = read_weights(weights)
    # What cannot be adapted does not fit either, and `fit_of` says so.
    with suppress(AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        state = _adapted(state, network, image_px)
    return fit_of(name, network, [head for head, _ in heads_of(network)], weights, state)


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
    for name, old in heads_of(model):
        new: nn.Module
        if isinstance(old, nn.Linear):
            new = Float32Linear(old.in_features, labels, bias=old.bias is not None)
        else:
            new = Float32Conv2d(old.in_channels, labels, kernel_size=1, bias=old.bias is not None)
        if keep_weights:
            new.load_state_dict(old.state_dict())
        model.set_submodule(name, new)
    if isinstance(model, SqueezeNet):
        # It ends in a ReLU, so no logit would be negative and no probability below 0.5.
        model.classifier[2] = nn.Identity()
    return model


def heads_of(model: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """Returns names and layers of what outputs the logits: one layer, or several to be averaged."""
    if isinstance(model, SqueezeNet):
        return [("classifier.1", model.classifier[1])]
    if (heads := timm_heads(model)) is not None:
        return heads
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
        f"backbone {name!r} does not take images of {image_px} px; {remedy} ({first_line(reason)})"
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
