"""Settings that say ``auto`` → settings that say what this machine will do."""

import torch

from canopy_search.training.device.compiling import resolve_compile
from canopy_search.training.device.precision import (
    resolve_device,
    resolve_precision,
    resolve_threads,
)
from canopy_search.training.settings import TrainingSettings


def resolve_settings(settings: TrainingSettings, training_images: int = 0) -> TrainingSettings:
    """Replaces every ``auto`` in `settings`, so that a run depends on nothing but its settings.

    That of ``device_cache`` stays: it changes no number, and what fits is known when a run begins.

    Args:
        settings: of the run.
        training_images: of an epoch; 0 where nothing is trained. Whether compiling pays depends on
            it.

    Raises:
        SettingsError: the device is not there, or cannot do the precision or CUDA graphs.
    """
    device = resolve_device(settings.device)
    steps = settings.epochs * -(-training_images // settings.batch_size)
    return settings.model_copy(
        update={
            "device": str(device),
            "precision": resolve_precision(settings.precision, torch.device(device)),
            "threads": resolve_threads(settings.threads),
            "compile": resolve_compile(settings.compile, device, steps),
        }
    )
