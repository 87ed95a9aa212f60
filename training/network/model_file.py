"""A trained model in one file, with everything needed to use it."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from canopy_search.filestore.atomic import write_atomically
from canopy_search.training.checkpoint import load_tensors
from canopy_search.training.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from canopy_search.training.errors import CheckpointError
from canopy_search.training.network.backbones import build_backbone

FORMAT = "canopy-model"
FORMAT_REVISION = 2


@dataclass(frozen=True)
class TrainedModel:
    """A model with everything needed to use it.

    Attributes:
        network: maps ``training.data.normalise.normalised`` pixels (batch, 3, image_px, image_px)
            to logits (batch, labels); in evaluation mode, on the CPU.
        labels: the label of each logit.
        image_px: side of the square that images are scaled to.
        settings: the ``data`` and ``training`` settings that it was trained with, as JSON values.
        metrics: its scores on validation and test, as JSON values.
        thresholds: ``f1`` and ``f2`` → for each label the smallest logit at which it is a tag,
            chosen on validation for that metric; empty in a file of revision 1.
    """

    network: nn.Module
    labels: tuple[str, ...]
    image_px: int
    settings: dict[str, Any]
    metrics: dict[str, Any]
    thresholds: dict[str, tuple[float, ...]] = field(default_factory=dict)


def save_model(path: Path, model: TrainedModel) -> None:
    """Writes `model` to `path` atomically; it loads with ``weights_only=True``."""
    buffer = io.BytesIO()
    content = {
        "format": FORMAT,
        "revision": FORMAT_REVISION,
        "weights": {name: tensor.cpu() for name, tensor in model.network.state_dict().items()},
        "labels": list(model.labels),
        "image_px": model.image_px,
        "pixel_mean": list(IMAGENET_MEAN),
        "pixel_std": list(IMAGENET_STD),
        "settings": model.settings,
        "metrics": model.metrics,
        "thresholds": {name: list(values) for name, values in model.thresholds.items()},
    }
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def load_model(path: Path) -> TrainedModel:
    """Reads a model that `save_model` wrote.

    Raises:
        CheckpointError: the file is missing, damaged or not a model.
    """
    try:
        content = load_tensors(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a Canopy model file")
    if content["revision"] > FORMAT_REVISION:
        raise CheckpointError(f"{path}: written by a newer version of Canopy; update Canopy")
    network = build_backbone(
        content["settings"]["training"]["backbone"],
        labels=len(content["labels"]),
        image_px=content["image_px"],
        weights="none",
        seed=0,
    )
    network.load_state_dict(content["weights"])
    return TrainedModel(
        network=network.eval(),
        labels=tuple(content["labels"]),
        image_px=content["image_px"],
        settings=content["settings"],
        metrics=content["metrics"],
        thresholds={name: tuple(values) for name, values in content.get("thresholds", {}).items()},
    )
