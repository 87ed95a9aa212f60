"""A trained model in one file, with everything needed to use it."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from torch import Tensor, nn

from canopy_search.filestore.atomic import write_atomically
from canopy_search.filestore.user_files import open_file
from canopy_search.training.checkpoint import load_tensors
from canopy_search.training.data.images.conversion import AS_STORED, Conversion
from canopy_search.training.data.normalise import PixelScale
from canopy_search.training.errors import CheckpointError, TrainingError
from canopy_search.training.network.backbones import (
    backbone_to_fill,
    check_weights,
    load_weights,
    meta_backbone,
    pixel_scale,
)
from canopy_search.training.settings import (
    EXCLUSIVE_LOSS,
    Bands,
    ColourSetting,
    RangeSetting,
    WeightsSetting,
)

FORMAT = "canopy-model"
FORMAT_REVISION = 3

_REMEDY = "copy the file again, or train the model again with: canopy train"


@dataclass(frozen=True)
class TrainedModel:
    """A model with everything needed to use it.

    Attributes:
        network: maps pixels that are ``training.data.normalise.normalised`` with `pixel_scale`,
            (batch, 3, image_px, image_px), to logits (batch, labels); in evaluation mode, on the
            CPU.
        labels: the label of each logit.
        image_px: side of the square that images are scaled to.
        settings: the ``data`` and ``training`` settings that it was trained with, as JSON values.
        metrics: its scores on validation and test, as JSON values.
        thresholds: ``f1`` and ``f2`` → for each label the smallest logit at which it is a tag,
            chosen on validation for that metric; empty in a file of revision 1.
        conversion: how stored values of images become colours; that of 8-bit images before
            revision 3.
    """

    network: nn.Module
    labels: tuple[str, ...]
    image_px: int
    settings: dict[str, Any]
    metrics: dict[str, Any]
    thresholds: dict[str, tuple[float, ...]] = field(default_factory=dict)
    conversion: Conversion = AS_STORED

    @property
    def pixel_scale(self) -> PixelScale:
        """Mean and standard deviation of the pixels that the network expects."""
        return pixel_scale(self.settings["training"]["backbone"])

    @property
    def is_exclusive(self) -> bool:
        """Whether every image has exactly one of the labels."""
        return bool(self.settings["training"].get("loss") == EXCLUSIVE_LOSS)


def save_model(path: Path, model: TrainedModel, not_averaged: nn.Module | None = None) -> None:
    """Writes `model` to `path` atomically; it loads with ``weights_only=True``.

    Args:
        path: of the file.
        model: the model.
        not_averaged: the same network with the weights whose average the model has, to be kept too.
    """
    buffer = io.BytesIO()
    content = {
        "format": FORMAT,
        "revision": FORMAT_REVISION,
        "weights": _weights(model.network),
        **({} if not_averaged is None else {"weights_not_averaged": _weights(not_averaged)}),
        "labels": list(model.labels),
        "image_px": model.image_px,
        "conversion": asdict(model.conversion),
        "pixel_mean": list(model.pixel_scale.mean),
        "pixel_std": list(model.pixel_scale.std),
        "settings": model.settings,
        "metrics": model.metrics,
        "thresholds": {name: list(values) for name, values in model.thresholds.items()},
    }
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in network.state_dict().items()}


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class _Training(_Part):
    backbone: str
    weights: WeightsSetting


class _Settings(_Part):
    data: dict[str, Any]
    training: _Training


class _Conversion(_Part):
    bands: Bands | None = None
    range: RangeSetting | None = None
    background: ColourSetting | None = None


class _Content(_Part):
    """What a model file must contain; anything may be in a file from elsewhere."""

    weights: dict[str, Tensor]
    labels: Annotated[list[str], Field(min_length=1)]
    image_px: Annotated[int, Field(ge=8, le=2048)]
    pixel_mean: list[float]
    pixel_std: list[float]
    settings: _Settings
    metrics: dict[str, Any]
    thresholds: dict[str, list[FiniteFloat]] = {}
    conversion: _Conversion = _Conversion()


def load_model(path: Path) -> TrainedModel:
    """Reads a model that `save_model` wrote; runs nothing that a file from elsewhere contains.

    Raises:
        CheckpointError: the file is missing, damaged or not a model, or cannot be read.
    """
    try:
        with open_file(path) as file:
            return _model(load_tensors(file.read()))
    except FileNotFoundError as error:
        expected = "there is no such file; name a model file of `canopy train`"
        raise CheckpointError(f"{path}: {expected}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        found = first["msg"].partition(" or instance of ")[0].removeprefix("Value error, ")
        raise CheckpointError(f"{path}: {_key(*first['loc'])}: {found}; {_REMEDY}") from error
    except TrainingError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _model(content: Any) -> TrainedModel:
    """Returns the model in the content of a file; raises as `load_model`, without the path."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError("not a Canopy model file")
    revision = content.get("revision")
    if not isinstance(revision, int) or revision < 1:
        raise CheckpointError(f"revision: expected a whole number from 1 on; {_REMEDY}")
    if revision > FORMAT_REVISION:
        raise CheckpointError("written by a newer version of Canopy; update Canopy")
    checked = _Content.model_validate(content)
    labels, image_px, training = checked.labels, checked.image_px, checked.settings.training
    if not all(map(str.isprintable, labels)) or len(set(labels)) < len(labels):
        raise CheckpointError(
            f"labels: expected different labels without control characters; {_REMEDY}"
        )
    if any(len(values) != len(labels) for values in checked.thresholds.values()):
        raise CheckpointError(f"thresholds: expected one for each of the labels; {_REMEDY}")
    try:
        check_weights(training.backbone, training.weights)
        scale = pixel_scale(training.backbone)
    except TrainingError as error:
        raise CheckpointError(f"settings.training: {error}") from error
    if (checked.pixel_mean, checked.pixel_std) != (list(scale.mean), list(scale.std)):
        raise CheckpointError(
            "pixel_mean, pixel_std: another version of Canopy, which scales pixels differently, "
            "wrote it; use that version"
        )
    network_of = {"labels": len(labels), "image_px": image_px}
    try:
        # Compared first, because a file may claim a network that does not fit in memory.
        _check_weights(checked.weights, meta_backbone(training.backbone, **network_of))
    except (AssertionError, ValueError) as error:
        raise CheckpointError(
            f"image_px: {training.backbone} does not take images of {image_px} px; {_REMEDY}"
        ) from error
    network = backbone_to_fill(training.backbone, **network_of, weights=training.weights)
    try:
        load_weights(network, checked.weights)
    except RuntimeError as error:  # tensors without data, for example
        raise CheckpointError(f"weights: cannot be copied; {_REMEDY}") from error
    return TrainedModel(
        network=network.eval(),
        labels=tuple(labels),
        image_px=image_px,
        settings=content["settings"],
        metrics=checked.metrics,
        thresholds={name: tuple(values) for name, values in checked.thresholds.items()},
        conversion=Conversion(**dict(checked.conversion)).settled,
    )


def _check_weights(found: Mapping[str, Tensor], network: nn.Module) -> None:
    """Compares names, shapes and types of weights with those of a network.

    Raises:
        CheckpointError: they differ.
    """
    expected = network.state_dict()
    for name in sorted(expected.keys() | found.keys()):
        texts = [_tensor_text(weights.get(name)) for weights in (expected, found)]
        if texts[0] != texts[1]:
            raise CheckpointError(
                f"{_key('weights', name)}: expected {texts[0]}, found {texts[1]}; {_REMEDY}"
            )


def _tensor_text(tensor: Tensor | None) -> str:
    if tensor is None:
        return "no tensor"
    kinds = [str(kind).removeprefix("torch.") for kind in (tensor.dtype, tensor.layout)]
    return f"{' '.join(kinds)} {tuple(tensor.shape)}"


def _key(*parts: object) -> str:
    """Returns a key of the file as text that is safe to print, whatever the file contains."""
    text = ".".join(map(str, parts))
    return text if text.isprintable() else ascii(text)
