"""Device slots: how many workers a machine has room for, and what each of them sees of it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from canopy_search.training.data.files.parallel import usable_cores
from canopy_search.training.device.precision import resolve_device

GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"

CPU_WORKERS = 2
"""Workers that pay on a CPU of two cores or more, sharing its threads (benchmarks/RESULTS.md)."""


@dataclass(frozen=True)
class DeviceSlot:
    """A place for one worker.

    Attributes:
        name: the device, for people.
        environment: variables of its process, by which it sees its own GPU alone.
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)


def device_slots(
    device: str, workers: int | Literal["auto"], slots_per_gpu: int = 1
) -> list[DeviceSlot]:
    """Returns a slot for each worker on this machine.

    Args:
        device: as the setting has it; ``cuda:1`` names one GPU, ``cuda`` and ``auto`` all of them.
        workers: how many; ``auto`` is `slots_per_gpu` for every GPU, and without one `CPU_WORKERS`,
            as far as there are cores.
        slots_per_gpu: workers that share a GPU.

    Raises:
        SettingsError: there is no such device.
    """
    resolved = resolve_device(device)
    if resolved.type != "cuda":
        number = min(CPU_WORKERS, usable_cores()) if workers == "auto" else workers
        return [DeviceSlot(resolved.type) for _ in range(number)]
    if ":" in device:
        number = slots_per_gpu if workers == "auto" else workers
        return [DeviceSlot(device) for _ in range(number)]
    visible = _visible_gpus()
    number = len(visible) * slots_per_gpu if workers == "auto" else workers
    return [
        DeviceSlot(f"cuda:{at % len(visible)}", {GPU_VARIABLE: visible[at % len(visible)]})
        for at in range(number)
    ]


def _visible_gpus() -> list[str]:
    """Returns what `GPU_VARIABLE` calls each GPU that this process sees."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(GPU_VARIABLE, "").split(",") if name.strip()]
    return named[:count] if len(named) >= count else [str(at) for at in range(count)]
