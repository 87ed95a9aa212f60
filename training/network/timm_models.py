"""timm's classification networks, by ``timm/`` and their name there; the package is optional."""

import sys
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from torch import nn

from canopy_search.training.data.normalise import PixelScale
from canopy_search.training.errors import SettingsError, UnknownNameError, unknown_name_message
from canopy_search.training.network.pretrained import PretrainedWeightsError, PublishedFile

TIMM = "timm/"
EXTRA = "canopy-search[timm]"


def is_timm(name: str) -> bool:
    """Whether a backbone is one of timm's."""
    return name.startswith(TIMM)


def check_timm(name: str) -> None:
    """Checks that timm has a network of that name; builds nothing.

    Raises:
        UnknownNameError: it has none.
        SettingsError: timm is not installed.
    """
    if name not in _names():
        raise UnknownNameError(unknown_name_message("backbone", name, _names()))


def timm_pixel_scale(name: str) -> PixelScale:
    """Returns the mean and standard deviation of the pixels that a network was trained with.

    Raises:
        SettingsError: timm is not installed.
    """
    config = _config(name)
    return PixelScale(tuple(config.mean), tuple(config.std))


def timm_weights(name: str) -> PublishedFile | None:
    """Returns where the weights published for a network are; None if there are none.

    Raises:
        SettingsError: timm is not installed.
    """
    config = _config(name)
    if not config.hf_hub_id:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    file = str(PurePosixPath(config.hf_hub_filename or "model").with_suffix(".safetensors"))
    cached = try_to_load_from_cache(config.hf_hub_id, file)
    return PublishedFile(
        f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{file}",
        Path(cached) if isinstance(cached, str) else Path(HF_HUB_CACHE, file),
    )


def timm_network(name: str, classes: int, image_px: int, *, is_pretrained: bool) -> nn.Module:
    """Builds a network; its published weights are downloaded the first time.

    Args:
        name: see `check_timm`.
        classes: number of logits.
        image_px: side of the images.
        is_pretrained: whether to load the published weights, all but those of the head.

    Raises:
        PretrainedWeightsError: the weights cannot be downloaded or read.
        SettingsError: timm is not installed.
        ValueError: the network does not take images of this size.
    """
    config = _config(name)
    own_px = config.input_size[-1]
    options: dict[str, Any] = {"pretrained": is_pretrained, "num_classes": classes}
    if config.fixed_input_size and image_px != own_px:
        options["img_size"] = image_px
    try:
        network: nn.Module = _timm().create_model(name.removeprefix(TIMM), **options)
    except TypeError as error:  # not every network of one size can be built for another one
        if "img_size" not in str(error):
            raise
        raise ValueError(f"it takes {own_px} px only") from error
    except (OSError, RuntimeError) as error:
        if not is_pretrained:
            raise
        raise PretrainedWeightsError(
            f"the weights of {name} could not be loaded from {config.hf_hub_id}: "
            f"{' '.join(str(error).split())}; set training.weights to none or to a file"
        ) from error
    return network


def timm_heads(network: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]] | None:
    """Returns names and layers of what outputs the logits of a network of timm's; else None."""
    if not type(network).__module__.startswith("timm."):
        return None
    model: Any = network
    found = model.get_classifier()
    heads = found if isinstance(found, tuple | list | nn.ModuleList) else (found,)
    names = {layer: name for name, layer in network.named_modules()}
    last = [
        [layer for layer in head.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
        for head in heads
    ]
    return [(names[layer], layer) for layer in last]


def adapted_timm_state(state: dict[str, Any], network: nn.Module) -> dict[str, Any]:
    """Returns weights as a network of timm's takes them, such as embeddings of its image size."""
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    return state if adapt is None else dict(adapt(state, network))


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise SettingsError(
            f"backbones that begin with {TIMM} need the package timm; pip install '{EXTRA}'"
        ) from error
    return timm


@cache
def _names() -> tuple[str, ...]:
    """Returns all names, with and without the tag that says how its weights were trained."""
    timm = _timm()
    names = {*timm.list_models(), *timm.list_models(include_tags=True)}
    return tuple(TIMM + name for name in sorted(names))


def _config(name: str) -> Any:
    return _timm().get_pretrained_cfg(name.removeprefix(TIMM))
