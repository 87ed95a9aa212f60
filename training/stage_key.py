"""Stage keys: two epochs with the same key are the same.

A stage is one epoch of one run. Its key is a chain of SHA-256 digests::

    key(0)   = H(everything except the learning rates that can change the run's numbers)
    key(k+1) = H(key(k), learning rates of epoch k+1, accumulation of epoch k+1 unless it is 1)

so two runs share their keys up to the first epoch whose learning rates differ, however often each
was interrupted, and whichever worker trained it. The learning rates are those of all steps, not the
schedule that they come from, and which layers they apply to: the head alone in a frozen epoch,
otherwise all, with ``layer_decay`` unless it is 1. Accumulation, the number of micro-batches per
batch after memory ran out, changes what batch normalisation and dropout see, so a run with
accumulation from some epoch on is a separate branch from there. ``key(0)`` covers:

- the engine revision, raised by hand whenever the numerics of training change;
- bytes and labels of the training and validation images, in their order, and the labels' names:
  images are gathered and shuffled by position, and metrics name the labels. Test images change no
  number of a run and are not covered;
- how bytes become pixels: decoding rule, bands, range and background, image size, augmentation;
- backbone, starting weights (of a file its bytes, not its path), loss and the parameters that this
  loss reads, optimizer and the parameters that this optimizer reads, the norm that gradients are
  clipped to;
- batch size, seed, how the weights are averaged, how the head starts and is trained;
- precision, device type, determinism, CPU threads (which change the last bits on the CPU), whether
  and how the network is compiled, and the versions of torch and torchvision, and of timm for its
  networks.

Not covered, because they change no number: paths, file names, the study, the worker, its host,
which of several equal GPUs was used, data-loading threads, whether images are cached in the
device's memory, where checkpoints are stored, the number of epochs, the schedule and gamma,
which act through the learning rates. A setting that is younger than stored stages is covered where
it differs from its default.

Not covered either, although they change the last bits: the GPU's model and the CPU's instruction
set, since a trial must be able to resume on another machine of its study, and the batches of
validation, which are smaller after memory ran out there.
"""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torchvision

from canopy_search.training.data.dataset import Dataset, parts_digest
from canopy_search.training.data.images.decoding import DECODING_RULE
from canopy_search.training.data.labels.targets import has_label
from canopy_search.training.network.timm_models import is_timm
from canopy_search.training.network.weights_files import weights_identity
from canopy_search.training.optimization.accumulation import Accumulation, steps_at
from canopy_search.training.optimization.schedules import learning_rates
from canopy_search.training.settings import TrainingSettings

ENGINE_REVISION = 2
"""Raise it whenever the same settings and data give different metrics than before.

A test compares a tiny run with recorded metrics and fails if they change.
"""

# Every trial needs it, and hashing tens of thousands of images takes a while.
_DATA_DIGESTS: WeakKeyDictionary[Dataset, str] = WeakKeyDictionary()
_FOCAL_LOSSES = frozenset({"focal", "focal_bce"})


def stage_keys(
    settings: TrainingSettings, dataset: Dataset, accumulation: Sequence[Accumulation] = ()
) -> list[str]:
    """Returns the keys of a run's epochs, in order.

    Args:
        settings: of the run, with every ``auto`` resolved.
        dataset: with the digests of its images.
        accumulation: changes of the number of micro-batches, in the order of their epochs.
    """
    keys = []
    key = root_key(settings, dataset)
    steps = -(-len(dataset.split.train) // settings.batch_size)
    for epoch in range(settings.epochs):
        rates = _rates_text(settings, epoch, steps)
        key = next_key(key, rates, steps_at(accumulation, epoch + 1))
        keys.append(key)
    return keys


def root_key(settings: TrainingSettings, dataset: Dataset) -> str:
    """Returns the key of a run before its first epoch, 64 hexadecimal digits.

    Args:
        settings: of the run, with every ``auto`` resolved.
        dataset: with the digests of its images.

    Raises:
        ValueError: a setting is still ``auto``, so its value is unknown.
    """
    for name in ("device", "precision", "threads", "compile"):
        if getattr(settings, name) == "auto":
            raise ValueError(f"training.{name} is auto; resolve the settings first")
    return _digest(
        {
            "engine": ENGINE_REVISION,
            "data": _data_digest(dataset),
            **_left_out_of_ap(dataset),
            "pixels": [
                DECODING_RULE,
                dataset.image_px,
                sorted(dataset.augment),
                *dataset.conversion.differences,
            ],
            "network": [settings.backbone, weights_identity(settings.weights)],
            "loss": [settings.loss, _loss_parameters(settings)],
            "optimizer": _optimizer_parameters(settings),
            "clip_norm": settings.clip_norm,
            "batch_size": settings.batch_size,
            "seed": settings.seed,
            **_changed(settings, "ema", "head_lr_factor", "head_bias"),
            "machine": _machine(settings),
            "versions": _versions(settings.backbone),
        }
    )


def next_key(key: str, rates: str, accumulation: int = 1) -> str:
    """Returns the key of the stage after `key`.

    Args:
        key: of the previous epoch, or of the root.
        rates: learning rates of the stage, as text.
        accumulation: number of micro-batches per batch.
    """
    cut = f" {accumulation}" if accumulation != 1 else ""
    return hashlib.sha256(f"{key} {rates}{cut}".encode()).hexdigest()


def _rates_text(settings: TrainingSettings, epoch: int, steps: int) -> str:
    """Returns the learning rates of an epoch, 0 for the first, and what they apply to."""
    rates = learning_rates(settings, epoch, steps)
    # One number if the rate is constant, so that stages trained before schedules keep their keys.
    text = " ".join(rate.hex() for rate in (rates[:1] if len(set(rates)) == 1 else rates))
    if epoch < settings.freeze_epochs:
        return f"{text} head"
    return text if settings.layer_decay == 1 else f"{text} layers {settings.layer_decay.hex()}"


def _data_digest(dataset: Dataset) -> str:
    """Returns the digest of bytes and labels of the training and validation images."""
    if dataset not in _DATA_DIGESTS:
        split = dataset.split
        _DATA_DIGESTS[dataset] = parts_digest(dataset, split.train, split.validation)
    return _DATA_DIGESTS[dataset]


def _left_out_of_ap(dataset: Dataset) -> dict[str, Any]:
    """Returns an entry if a label has no negative validation image; such AP was 1 in revision 2."""
    targets = dataset.targets[dataset.split.validation]
    always = has_label(targets).any(axis=0) & ~(targets == 0).any(axis=0)
    return {"left_out_of_ap": "labels of every image"} if always.any() else {}


def _loss_parameters(settings: TrainingSettings) -> dict[str, Any]:
    if settings.loss in _FOCAL_LOSSES:
        return settings.focal.model_dump()
    return settings.asymmetric.model_dump() if settings.loss == "asymmetric" else {}


def _changed(settings: TrainingSettings, *names: str) -> dict[str, Any]:
    """Returns the settings that differ from their defaults, without which stages were trained."""
    default = TrainingSettings()
    return {
        name: getattr(settings, name)
        for name in names
        if getattr(settings, name) != getattr(default, name)
    }


def _optimizer_parameters(settings: TrainingSettings) -> dict[str, Any]:
    """Returns all parameters except the learning rate, which is part of each stage's key."""
    optimizer = settings.optimizer
    excluded = {"lr"} if optimizer.name == "sgd" else {"lr", "momentum"}
    if not optimizer.excludes_from_decay:
        excluded.add("decay_norms_and_biases")
    return optimizer.model_dump(exclude=excluded)


def _machine(settings: TrainingSettings) -> list[Any]:
    device_type = settings.device.partition(":")[0]
    threads = settings.threads if device_type == "cpu" else None
    # Empty if off, so that stages trained before this setting existed keep their keys.
    compiled = [] if settings.compile == "off" else [f"compile {settings.compile}"]
    return [device_type, threads, settings.precision, settings.deterministic, *compiled]


def _versions(backbone: str) -> list[str]:
    # timm's only where it builds the network, so that other stages keep their keys.
    timm = [version("timm")] if is_timm(backbone) else []
    return [torch.__version__, torchvision.__version__, *timm]


def _digest(parts: dict[str, Any]) -> str:
    text = json.dumps(parts, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
