"""How fast one network trains on this machine, from some of its steps."""

import time
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

import numpy as np

from canopy_search.training.checkpoint import state_to_bytes
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.data.sample import DataSample
from canopy_search.training.run import EVALUATION_BATCH_FACTOR, EpochMetrics, TrainingRun
from canopy_search.training.settings import TrainingSettings

# A pass takes about so long if an epoch does: short enough for several, long enough to be timed.
_PASS_S = 1.0
MOST_PASSES = 7
# A first step sets up kernels and buffers; where it took as long as this, that hardly counts.
_SLOW_STEP_S = 5.0
# Steps are measured, not learned from: at the rate that is searched a loss may become NaN.
_HARMLESS_LR = 1e-6


class Network(NamedTuple):
    """What decides how long an epoch takes.

    Attributes:
        backbone: its name.
        batch_size: images of a training step.
    """

    backbone: str
    batch_size: int


@dataclass(frozen=True)
class NetworkSpeed:
    """What was measured of a network.

    Attributes:
        epoch_s: seconds of a whole epoch with its validation, as each pass would have it.
        build_s: seconds to make the run of a trial.
        checkpoint_bytes: of one epoch.
        peak_mib: largest memory, on the GPU or else of the whole process so far.
    """

    epoch_s: tuple[float, ...]
    build_s: float
    checkpoint_bytes: int
    peak_mib: float

    @property
    def typical_s(self) -> float:
        """Seconds of an epoch: the median pass."""
        return median(self.epoch_s)


def measure_speed(settings: TrainingSettings, sample: DataSample, budget_s: float) -> NetworkSpeed:
    """Trains and validates on a few images again and again, as a trial would.

    Args:
        settings: of the run, every ``auto`` resolved.
        sample: images of the data.
        budget_s: seconds after which no further pass begins; there are two at least, or one where
            a single step takes long.

    Raises:
        TrainingError: the network cannot be built, its weights cannot be had, or it does not fit.
    """
    optimizer = settings.optimizer.model_copy(update={"lr": _HARMLESS_LR})
    settings = settings.model_copy(update={"optimizer": optimizer})
    deadline = time.perf_counter() + budget_s
    run, build_s = _timed_run(settings, _few(sample, settings.batch_size, batches=1))
    passes = [run.train_epoch()]
    if passes[0].train_s < _SLOW_STEP_S:
        step_s = run.train_epoch().train_s
        batches = max(1, round(_PASS_S / step_s))
        run, build_s = _timed_run(settings, _few(sample, settings.batch_size, batches))
        passes = [run.train_epoch(), run.train_epoch()]
    while len(passes) < MOST_PASSES and time.perf_counter() < deadline:
        passes.append(run.train_epoch())
    return NetworkSpeed(
        epoch_s=tuple(_epoch_s(measured, run.dataset, sample) for measured in passes),
        build_s=build_s,
        checkpoint_bytes=len(state_to_bytes(run.state())),
        peak_mib=max(measured.peak_memory_mib for measured in passes),
    )


def _timed_run(settings: TrainingSettings, few: Dataset) -> tuple[TrainingRun, float]:
    """Returns a new run, and the seconds that it took to make."""
    began = time.perf_counter()
    run = TrainingRun(settings, few)
    return run, time.perf_counter() - began


def _few(sample: DataSample, batch_size: int, batches: int) -> Dataset:
    """Returns data with so many batches to train on, and the same share of validation images.

    Where the sample has fewer images they come again, which costs the same.
    """
    split = sample.dataset.split
    train = min(sample.train, batches * batch_size)
    share = sample.validation * train // max(1, sample.train)
    validation = min(sample.validation, max(share, EVALUATION_BATCH_FACTOR * batch_size))
    few = replace(
        split,
        train=np.resize(split.train, train),
        validation=np.resize(split.validation, validation),
    )
    return replace(sample.dataset, split=few)


def _epoch_s(measured: EpochMetrics, few: Dataset, sample: DataSample) -> float:
    train = measured.train_s * sample.train / len(few.split.train)
    validation = measured.validation.seconds * sample.validation
    return train + validation / len(few.split.validation)
