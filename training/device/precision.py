"""Resolves ``auto`` for device, precision and threads on this machine."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import psutil
import torch

from canopy_search.training.device.gpu import visible_gpus
from canopy_search.training.errors import SettingsError

Precision = Literal["fp32", "bf16", "fp16"]

_AUTOCAST_DTYPES: Mapping[Precision, torch.dtype] = MappingProxyType(
    {"bf16": torch.bfloat16, "fp16": torch.float16}
)

# Keys of `torch.cpu.get_capabilities`. ARM's are missing because no gain was measured there.
_NATIVE_BF16 = ("avx512_bf16", "amx_bf16")

# The oldest GPUs that compute in bf16; older ones emulate it slowly, and cuDNN refuses some layers.
_BF16_CAPABILITY = (8, 0)

_CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
_CPU_TOPOLOGY = Path("/sys/devices/system/cpu")


def resolve_device(setting: str) -> torch.device:
    """Returns the device of a setting: ``auto`` is the first CUDA GPU, else the CPU.

    Apple's GPU must be named: its results are untested and not reproducible bit for bit.

    Args:
        setting: ``auto``, ``cpu``, ``mps``, ``cuda`` (the first GPU) or ``cuda:N``.

    Raises:
        SettingsError: there is no such device.
    """
    gpus = torch.cuda.device_count()
    if setting == "auto":
        return torch.device("cuda", 0) if gpus else torch.device("cpu")
    device = torch.device(setting)
    if device.type == "cuda":
        if not gpus:
            raise SettingsError(
                f"training.device: {setting} requested, but torch {torch.__version__} finds no "
                "CUDA GPU; set it to auto or cpu, or check the driver with nvidia-smi"
            )
        index = device.index or 0
        if index >= gpus:
            raise SettingsError(
                f"training.device: {setting} requested, but the GPUs here are cuda:0 to "
                f"cuda:{gpus - 1}; choose one of them or auto"
            )
        return torch.device("cuda", index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SettingsError(
            "training.device: mps requested, but torch finds no Apple GPU; set it to auto or cpu"
        )
    return device


def resolve_precision(
    setting: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device
) -> Precision:
    """Returns the precision of convolutions and matrix products on a device.

    ``auto`` is bf16 if the hardware supports it (CUDA from compute capability 8.0 on, CPUs with
    AVX512-BF16 or AMX), fp16 on older CUDA GPUs, fp32 elsewhere. On a machine with several GPUs the
    oldest one decides, because workers on all of them share the precision.

    Raises:
        SettingsError: fp16 on the CPU, where it is slow and its gradients underflow, or bf16 on a
            GPU that does not compute in it.
    """
    if setting == "fp16" and device.type == "cpu":
        raise SettingsError(
            "training.precision: fp16 does not work on the CPU; set it to auto, fp32 or bf16"
        )
    if device.type == "cuda" and setting in {"auto", "bf16"}:
        gpus = visible_gpus()
        if setting == "auto":
            oldest = min(gpu.capability for gpu in gpus)
            return "bf16" if oldest >= _BF16_CAPABILITY else "fp16"
        gpu = gpus[device.index or 0]
        if gpu.capability < _BF16_CAPABILITY:
            raise SettingsError(
                f"training.precision: bf16 requested, but {gpu.name} does not compute in it; use a "
                "newer GPU or set it to fp16 or fp32 (a study keeps the precision that it was "
                "started with, so start another one with --study NAME)"
            )
    if setting != "auto":
        return setting
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return "bf16" if any(capabilities.get(key) for key in _NATIVE_BF16) else "fp32"
    return "fp32"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Returns the autocast context of `precision`; weights stay float32."""
    if precision == "fp32":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=_AUTOCAST_DTYPES[precision])


def resolve_threads(setting: Literal["auto"] | int) -> int:
    """Returns the number of CPU threads: ``auto`` is every physical core this process may use.

    Hyper-threads of one core share its arithmetic units, so a second one gains nothing. A
    container's CPU quota, rounded down, is an upper limit; the result is at least 1.
    """
    if setting != "auto":
        return setting
    cores = _physical_cores()
    quota = _cpu_quota(_CGROUP_CPU_MAX)
    return max(1, cores if quota is None else min(cores, int(quota)))


def _physical_cores() -> int:
    """Returns the number of cores behind the logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return _core_count(os.sched_getaffinity(0), _CPU_TOPOLOGY)
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def _core_count(cpus: Iterable[int], topology: Path) -> int:
    """Counts distinct sets of sibling CPUs; a CPU with unknown siblings counts as a core."""
    cores = set()
    for cpu in cpus:
        siblings = topology / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        cores.add(siblings.read_text().strip() if siblings.exists() else f"cpu {cpu}")
    return len(cores)


def _cpu_quota(cpu_max: Path) -> float | None:
    """Returns the number of CPUs that a container may use at once, None without a limit.

    References:
        ``cpu.max`` in https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    if not cpu_max.exists():
        return None
    quota, period = cpu_max.read_text().split()
    return None if quota == "max" else int(quota) / int(period)
