"""Replaces ``auto`` in settings with what this machine will use."""

from typing import NewType

import torch

from canopy_search.training.device.compiling import Compile, resolve_compile
from canopy_search.training.device.precision import (
    resolve_device,
    resolve_precision,
    resolve_threads,
)
from canopy_search.training.errors import SettingsError
from canopy_search.training.settings import TrainingSettings

ResolvedSettings = NewType("ResolvedSettings", TrainingSettings)
"""Settings in which nothing is left to this machine."""


def resolve_settings(
    settings: TrainingSettings, training_images: int = 0, epochs_at_once: int | None = None
) -> ResolvedSettings:
    """Replaces every ``auto`` in `settings`, so that a run depends only on its settings.

    ``device_cache`` stays ``auto``: it changes no number, and what fits is known when a run starts.

    Args:
        settings: of the run.
        training_images: images per epoch; 0 if nothing is trained. Decides whether compiling saves
            time.
        epochs_at_once: epochs that a run surely trains before it may pause, and then be compiled
            again; None if it never pauses.

    Raises:
        SettingsError: there is no such device, it does not support the precision or CUDA graphs, or
            a compiled network is to compute blocks again.
    """
    device = resolve_device(settings.device)
    steps = (epochs_at_once or settings.epochs) * -(-training_images // settings.batch_size)
    compiled: Compile = "off"
    if not settings.gradient_checkpointing:
        compiled = resolve_compile(settings.compile, device, steps)
    elif settings.compile not in {"auto", "off"}:
        raise SettingsError(
            "training.gradient_checkpointing: a compiled network cannot do this; set it to false, "
            "or training.compile to off"
        )
    return ResolvedSettings(
        settings.model_copy(
            update={
                "device": str(device),
                "precision": resolve_precision(settings.precision, torch.device(device)),
                "threads": resolve_threads(settings.threads),
                "compile": compiled,
            }
        )
    )
