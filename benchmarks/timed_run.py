"""Epochs of one training run with one switch turned, in a process of its own.

Used by `benchmarks.loop_switches` and `benchmarks.gpu`. A switch is a setting, a variable of the
environment, or, where Canopy offers no setting, a change of the code that is made for the
measurement alone.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from benchmarks.noise_images import Case, noise_images
from canopy_search.training import run as training_run
from canopy_search.training.optimization import optimizers
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import TrainingSettings


@dataclass(frozen=True)
class Switch:
    """What is changed.

    Attributes:
        name: how it stands in a table.
        settings: of `training`.
        patch: of `PATCHES`.
        environment: variables of the process.
        augment: flips and turns of the training images.
        processes: that train at the same time.
        pinned: whether each of them keeps to its own share of the cores.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    patch: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    augment: tuple[str, ...] = ()
    processes: int = 1
    pinned: bool = False


@dataclass(frozen=True)
class Extent:
    """How much is measured, and where.

    Attributes:
        rounds: of all switches in turns.
        epochs: of each measurement, after a first one.
        folder: of the images.
        device: as the setting has it.
        limit_s: after which a measurement is given up; None for no limit.
    """

    rounds: int
    epochs: int
    folder: Path
    device: str = "cpu"
    limit_s: float | None = None


@dataclass(frozen=True)
class RunTimes:
    """What one process measured.

    Attributes:
        train_s: of each epoch after the first.
        val_s: of each epoch after the first.
        train_cpu_s: CPU time of training in each epoch after the first, all threads.
        val_cpu_s: CPU time of validation, likewise.
        first_s: the whole first epoch, building and compiling included.
        images: trained on in an epoch.
        peak_memory_mib: of the last epoch; see `EpochMetrics`.
        faults: page faults of an epoch.
    """

    train_s: list[float]
    val_s: list[float]
    train_cpu_s: list[float]
    val_cpu_s: list[float]
    first_s: float
    images: int
    peak_memory_mib: float
    faults: float


def _contiguous() -> None:
    def to(self: nn.Module, *arguments: Any, **options: Any) -> nn.Module:
        options.pop("memory_format", None)
        return plain(self, *arguments, **options) if arguments or options else self

    plain = nn.Module.to
    nn.Module.to = to  # type: ignore[method-assign, assignment] # fewer overloads
    place: Any = training_run
    normalised = place.normalised
    place.normalised = lambda *pixels: normalised(*pixels).contiguous()


def _unfused() -> None:
    optimizers._FUSED_DEVICE_TYPES = frozenset()


def _giving_back() -> None:
    training_run.keep_freed_memory = lambda: False  # type: ignore[attr-defined] # imported there


def _flush_denormal() -> None:
    torch.set_flush_denormal(True)


def _evaluation_factor(factor: int) -> None:
    training_run.EVALUATION_BATCH_FACTOR = factor


PATCHES: Mapping[str, Callable[[], None]] = MappingProxyType(
    {
        "contiguous": _contiguous,
        "unfused": _unfused,
        "giving back": _giving_back,
        "flush denormals": _flush_denormal,
        **{
            f"evaluation batch × {factor}": partial(_evaluation_factor, factor)
            for factor in (1, 4, 8)
        },
    }
)


def time_run(case: Case, switch: Switch, extent: Extent) -> list[RunTimes]:
    """Trains in processes that begin together.

    Args:
        case: what is trained.
        switch: what is changed.
        extent: of the measurement.

    Raises:
        RuntimeError: one ended with an error, or they took too long.
    """
    with tempfile.TemporaryDirectory() as ready:
        job = [asdict(case), asdict(switch), extent.epochs, str(extent.folder), extent.device]
        outputs = _run([*job, ready], switch, extent.limit_s)
    return [RunTimes(**json.loads(output)) for output in outputs]


def _run(job: list[Any], switch: Switch, limit_s: float | None) -> list[str]:
    """Runs all processes of a switch; returns what they print."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.timed_run", json.dumps([*job, at])],
            env={**os.environ, **switch.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for at in range(switch.processes)
    ]
    try:
        outputs = [process.communicate(timeout=limit_s) for process in processes]
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{switch.name}: not done after {limit_s:.0f} s") from error
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        if process.returncode:
            last = errors.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
            raise RuntimeError(f"{switch.name}: {last[0]}")
    return [output for output, _ in outputs]


def _train(job: Sequence[Any]) -> RunTimes:
    case, switch = Case(**job[0]), Switch(**job[1])
    epochs, folder, device, ready = job[2], Path(job[3]), job[4], Path(job[5])
    if switch.pinned:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[job[6] :: switch.processes])
    if switch.patch is not None:
        PATCHES[switch.patch]()
    dataset = noise_images(case, folder, tuple(switch.augment))
    options = {"backbone": case.backbone, "batch_size": case.batch_size, "epochs": epochs + 1}
    settings = TrainingSettings.model_validate({**options, "device": device, **switch.settings})
    started = time.perf_counter()
    run = TrainingRun.of(settings, dataset)
    run.train_epoch()
    first_s = time.perf_counter() - started
    _wait_for_all(switch.processes, ready)
    before = _faults()
    metrics, train_cpu_s, val_cpu_s = [], [], []
    for _ in range(epochs):
        started_s = time.process_time()
        metrics.append(run.train_epoch())
        trained_s = time.process_time()
        run.evaluate(dataset.split.validation)
        val_cpu_s.append(time.process_time() - trained_s)
        train_cpu_s.append(trained_s - started_s - val_cpu_s[-1])
    return RunTimes(
        train_s=[each.train_s for each in metrics],
        val_s=[each.validation.seconds for each in metrics],
        train_cpu_s=train_cpu_s,
        val_cpu_s=val_cpu_s,
        first_s=first_s,
        images=len(dataset.split.train),
        peak_memory_mib=metrics[-1].peak_memory_mib,
        faults=(_faults() - before) / epochs,
    )


def _wait_for_all(count: int, ready: Path) -> None:
    """Waits until all processes have trained their first epoch, so that they share the device."""
    (ready / str(os.getpid())).touch()
    while len(list(ready.iterdir())) < count:
        time.sleep(0.01)


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


if __name__ == "__main__":
    print(json.dumps(asdict(_train(json.loads(sys.argv[1])))))
