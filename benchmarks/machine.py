"""What a figure was measured on."""

import os
import platform
from datetime import date
from statistics import median

import torch

from canopy_search.training.device.precision import resolve_threads


def machine_text() -> str:
    """Returns date, processor, cores, threads, load and versions in one line."""
    processor = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{date.today().isoformat()} · {processor} ({torch.backends.cpu.get_cpu_capability()}), "
        f"{os.cpu_count()} cores, {resolve_threads('auto')} threads, {gpu} · load "
        f"{os.getloadavg()[0]:.1f} · torch {torch.__version__}, Python {platform.python_version()}"
    )


def spread_text(values: list[float], digits: int = 2) -> str:
    """Returns median, smallest and largest of some measurements."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
