"""Device slots: how many workers a machine can run, and which GPU each of them sees."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from canopy_search.training.data.files.parallel import usable_cores
from canopy_search.training.device.precision import resolve_device

GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"

CPU_WORKERS = 2
"""Workers on a CPU with two or more cores; they share its threads (benchmarks/RESULTS.md)."""


@dataclass(frozen=True)
class DeviceSlot:
    """The device of one worker.

    Attributes:
        name: device name to display.
        environment: variables of its process, which hide all other GPUs from it.
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def place(self, number: int | None) -> str:
        """Returns the name of the place of its worker: all workers on a GPU share its faults.

        Args:
            number: of the worker, if it has one.
        """
        is_shared = number is None or self.name.startswith("cuda")
        return self.name if is_shared else f"{self.name} {number}"


def device_slots(
    device: str, workers: int | Literal["auto"], slots_per_gpu: int = 1
) -> list[DeviceSlot]:
    """Returns a slot for each worker on this machine.

    Args:
        device: `training.device`; ``cuda:1`` is one GPU, ``cuda`` and ``auto`` all of them.
        workers: number of workers; ``auto`` is `slots_per_gpu` for every GPU, and without a GPU
            `CPU_WORKERS`, limited by the number of cores.
        slots_per_gpu: workers that share a GPU.

    Raises:
        SettingsError: the device does not exist.
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
        DeviceSlot(f"cuda:{index % len(visible)}", {GPU_VARIABLE: visible[index % len(visible)]})
        for index in range(number)
    ]


def _visible_gpus() -> list[str]:
    """Returns the name in `GPU_VARIABLE` of each GPU visible to this process."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(GPU_VARIABLE, "").split(",") if name.strip()]
    return named[:count] if len(named) >= count else [str(index) for index in range(count)]
