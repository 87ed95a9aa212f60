"""Settings that say ``auto`` → settings that say what this machine will do."""

import torch

from training.precision import resolve_device, resolve_precision, resolve_threads
from training.settings import TrainingSettings


def resolve_settings(settings: TrainingSettings) -> TrainingSettings:
    """Replaces every ``auto`` in `settings`, so that a run depends on nothing but its settings.

    Raises:
        SettingsError: the device is not there, or cannot do the precision.
    """
    device = resolve_device(settings.device)
    return settings.model_copy(
        update={
            "device": str(device),
            "precision": resolve_precision(settings.precision, torch.device(device)),
            "threads": resolve_threads(settings.threads),
        }
    )
