"""Device slots: how many workers a machine can run, and which GPU each of them sees."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from canopy_search.training.data.files.parallel import usable_cores
from canopy_search.training.device.precision import resolve_device

GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"

_MIG = "MIG-"
_UUID = re.compile(r"UUID: ((?:GPU|MIG)-[^)\s]+)")  # of `nvidia-smi -L`
_ASK_LIMIT_S = 10

CPU_WORKERS = 2
"""Workers on a CPU with two or more cores; they share its threads (benchmarks/log)."""


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
    """Returns the name in `GPU_VARIABLE` of each GPU that a worker can have.

    Of the instances of a partitioned GPU (MIG) a process sees one, so torch's count says nothing
    about them.
    """
    variable = os.environ.get(GPU_VARIABLE)
    named = [name.strip() for name in (variable or "").split(",") if name.strip()]
    if variable is None:
        named = _listed_gpus()
    if any(name.startswith(_MIG) for name in named):
        return named
    count = torch.cuda.device_count()
    if variable is None or len(named) < count:
        return [str(index) for index in range(count)]
    return named[:count]


def _listed_gpus() -> list[str]:
    """Returns the id of every GPU that the driver lists, of partitioned ones of each instance."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = subprocess.run(
            [program, "-L"], capture_output=True, text=True, timeout=_ASK_LIMIT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found: dict[str, list[str]] = {}
    for name in _UUID.findall(listed):
        if name.startswith(_MIG):
            found[next(reversed(found))].append(name)
        else:
            found[name] = []
    return [name for gpu, instances in found.items() for name in instances or [gpu]]
