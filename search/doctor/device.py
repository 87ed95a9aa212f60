"""Checks of the training device and its memory."""

import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from canopy_search.dashboards.formatting.values import counted
from canopy_search.filestore.messages import first_line
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.config.space import parse_space
from canopy_search.search.doctor.finding import Finding, error, ok, warning
from canopy_search.search.study.preflight import largest_step
from canopy_search.training.data.dataset import DataFacts
from canopy_search.training.device.memory import available_bytes
from canopy_search.training.resolve import resolve_settings
from canopy_search.training.settings import TrainingSettings
from canopy_search.training.sizes import size_text

_ASK_LIMIT_S = 10
_PCI = Path("/sys/bus/pci/devices")
_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"
_HIDDEN = {"", "-1"}


@dataclass(frozen=True)
class Card:
    """A GPU that the machine has, whether or not torch can use it.

    Attributes:
        name: its name according to the driver.
        driver: version of its driver; None without one.
    """

    name: str
    driver: str | None


def check_device(training: TrainingSettings) -> Iterator[Finding]:
    """Reports the training device, and any GPU that torch cannot use.

    Raises:
        SettingsError: the configured device does not exist.
    """
    cards = find_cards()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gpus = torch.cuda.device_count()
    resolved = resolve_settings(training)
    device = torch.device(resolved.device)
    threads = "1 CPU thread" if resolved.threads == 1 else f"{resolved.threads} CPU threads"
    how = f"{resolved.precision}, {threads}"
    if device.type == "cuda":
        yield _cuda_finding(device, how, cards, gpus)
        return
    place = "the CPU" if device.type == "cpu" else "Apple's GPU"
    found = f"trains on {place}: {how}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus or not cards:
        unused = f"{counted(gpus, 'GPU')} not requested" if gpus else "no CUDA GPU here"
        yield ok("device", f"{unused}; {found}")
    elif hidden in _HIDDEN:
        yield ok("device", f"CUDA_VISIBLE_DEVICES hides the GPU; {found}")
    else:
        reason, remedy = _why_unusable(cards, [str(warned.message) for warned in caught], hidden)
        yield warning(
            "device",
            f"{cards[0].name} is present, but torch cannot use it: {reason}; {found}",
            remedy,
        )


def check_memory(config: CanopyConfig, images: DataFacts) -> Iterator[Finding]:
    """Compares the largest training step of the search space with the free memory.

    Args:
        config: the whole configuration.
        images: numbers and size of the images.

    Raises:
        TrainingError: a network does not exist, or does not fit the images or the memory.
    """
    step = largest_step(parse_space(config.search, config.training), images)
    run = step.settings
    place = "the CPU" if run.device == "cpu" else run.device
    found = (
        f"{run.backbone} with {run.batch_size} images of {step.image_px} px needs about "
        f"{size_text(step.needed_bytes)}, {size_text(step.available_bytes)} are free on {place}"
    )
    if step.is_tight:
        yield warning(
            "memory", found, "it may not fit; lower training.batch_size, or free some memory"
        )
    else:
        yield ok("memory", found)


def find_cards() -> list[Card]:
    """Returns this machine's NVIDIA GPUs: those that the driver lists, else those on the bus."""
    program = shutil.which("nvidia-smi")
    if program:
        query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        try:
            answer = subprocess.run(
                query, capture_output=True, text=True, timeout=_ASK_LIMIT_S, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            answer = ""
        rows = [line.split(", ") for line in answer.splitlines()]
        cards = [Card(row[0], row[1]) for row in rows if len(row) == 2]
        if cards:
            return cards
    return [Card("an NVIDIA GPU", None) for device in _PCI.glob("*") if _is_nvidia_gpu(device)]


def _cuda_finding(device: torch.device, how: str, cards: Sequence[Card], gpus: int) -> Finding:
    """Computes on the GPU, since a driver can list one that it or torch does not support."""
    try:
        properties = torch.cuda.get_device_properties(device)
        free = available_bytes(device)
        torch.ones(8, device=device).sum().item()
    except (RuntimeError, AssertionError) as problem:
        return error(
            "device",
            f"{device} is present, but torch {torch.__version__} cannot compute on it: "
            f"{first_line(problem)}",
            "update its driver, or set training.device to cpu",
        )
    driver = f", driver {cards[0].driver}" if cards and cards[0].driver else ""
    more = f", {gpus - 1} more" if gpus > 1 else ""
    return ok(
        "device",
        f"{properties.name} with {size_text(properties.total_memory)}, "
        f"{size_text(free)} free{driver}{more}; trains on {device}: {how}",
    )


def _why_unusable(
    cards: Sequence[Card], messages: Sequence[str], visible: str | None
) -> tuple[str, str]:
    """Returns why torch sees no GPU although there is one, and the remedy."""
    if visible is not None:
        return f"CUDA_VISIBLE_DEVICES is {visible!r}", "correct or unset CUDA_VISIBLE_DEVICES"
    if cards[0].driver is None:
        return (
            "it has no working driver",
            "install NVIDIA's driver, and check that nvidia-smi lists the GPU",
        )
    if torch.version.cuda is None:
        return (
            f"torch {torch.__version__} was built without CUDA",
            "install the build with CUDA, see https://pytorch.org/get-started/locally",
        )
    reason = first_line(messages[0]) if messages else f"driver {cards[0].driver} does not respond"
    return reason, f"update NVIDIA's driver to one that supports CUDA {torch.version.cuda}"


def _is_nvidia_gpu(device: Path) -> bool:
    try:
        vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
    except OSError:
        return False
    return vendor == _NVIDIA and kind.startswith(_DISPLAY_CLASS)
