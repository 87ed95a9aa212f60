"""What a GPU is and how much of its memory is free, without keeping any of that memory.

CUDA answers in a context, which takes hundreds of MiB of the GPU for as long as its process lives,
and which a GPU in exclusive mode grants to one process only. So a process that has not computed on
a GPU, such as the launcher of the workers, asks through a child that ends at once.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from canopy_search.training.errors import SettingsError

_CUDA: Any = torch.cuda  # some of its functions have no types
_ASK_LIMIT_S = 120
_QUESTION = """
import json, sys, torch
gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
print(json.dumps({
    "gpus": [[gpu.name, gpu.major, gpu.minor] for gpu in gpus],
    "free_bytes": torch.cuda.mem_get_info(int(sys.argv[1]))[0],
}))
"""


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process sees.

    Attributes:
        name: its model.
        capability: compute capability, such as (8, 0).
    """

    name: str
    capability: tuple[int, int]


def open_gpu() -> None:
    """Creates the context of a process that will compute on a GPU, so that it asks no child.

    Raises:
        SettingsError: torch cannot use the GPU.
    """
    try:
        _CUDA.init()
    except RuntimeError as error:
        raise _unusable(str(error)) from error


def visible_gpus() -> list[Gpu]:
    """Returns all GPUs that this process sees, in torch's order.

    Raises:
        SettingsError: torch cannot use a GPU.
    """
    if not _CUDA.is_initialized():
        return [Gpu(name, (major, minor)) for name, major, minor in _answer(0)["gpus"]]
    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [Gpu(gpu.name, (gpu.major, gpu.minor)) for gpu in found]


def free_bytes(device: torch.device) -> int:
    """Returns the memory of a GPU that this process can still take.

    Raises:
        SettingsError: torch cannot use the GPU.
    """
    if not _CUDA.is_initialized():
        return int(_answer(device.index or 0)["free_bytes"])
    free, _total = torch.cuda.mem_get_info(device)
    # Memory that torch has reserved but does not use is available too.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


@cache
def _answer(index: int) -> dict[str, Any]:
    """Asks once, because importing torch takes seconds."""
    # -P: a file of the working folder must not be imported in place of a package.
    question = [sys.executable, "-P", "-c", _QUESTION, str(index)]
    try:
        asked = subprocess.run(
            question, capture_output=True, text=True, timeout=_ASK_LIMIT_S, check=True
        )
        answer: dict[str, Any] = json.loads(asked.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise _unusable(str(getattr(error, "stderr", None) or error)) from error
    return answer


def _unusable(reason: str) -> SettingsError:
    return SettingsError(
        f"training.device: torch {torch.__version__} cannot use the GPU: "
        f"{reason.strip().splitlines()[-1]}; check the driver with nvidia-smi, or choose cpu"
    )
