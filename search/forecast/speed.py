"""Measures how fast one network trains on this machine, from a few of its steps."""

import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from canopy_search.training.checkpoint import state_to_bytes
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.data.sample import DataSample
from canopy_search.training.metrics import EpochMetrics
from canopy_search.training.run import EVALUATION_BATCH_FACTOR, TrainingRun
from canopy_search.training.settings import TrainingSettings

# Target duration of a pass: short enough for several, long enough to time.
_PASS_S = 1.0
MOST_PASSES = 7
# The first step sets up kernels and buffers; in a step this slow, that hardly matters.
_SLOW_STEP_S = 5.0
# Steps are only timed; at a searched learning rate the loss might become NaN.
_HARMLESS_LR = 1e-6


class Network(NamedTuple):
    """The settings that determine how long an epoch takes.

    Attributes:
        backbone: name of the backbone.
        batch_size: images of a training step.
    """

    backbone: str
    batch_size: int


@dataclass(frozen=True)
class NetworkSpeed:
    """The measured speed of a network.

    Attributes:
        epoch_s: seconds of a whole epoch with validation, as estimated from each pass.
        build_s: seconds to build the run of a trial.
        checkpoint_bytes: size of one epoch's checkpoint.
        peak_mib: peak memory on the GPU, else of the whole process so far.
    """

    epoch_s: tuple[float, ...]
    build_s: float
    checkpoint_bytes: int
    peak_mib: float


@dataclass(frozen=True)
class FirstStep:
    """A run that took its first training step, or its second one if the first was not slow.

    Attributes:
        run: the run, on one batch.
        build_s: seconds to build it.
        metrics: of the last step, with its validation.
        epoch_s: seconds of a whole epoch with validation, as estimated from it.
    """

    run: TrainingRun
    build_s: float
    metrics: EpochMetrics
    epoch_s: float

    @property
    def images(self) -> int:
        """Number of images in the step."""
        return len(self.run.dataset.split.train)


def first_step(settings: TrainingSettings, sample: DataSample) -> FirstStep:
    """Trains one batch as a trial would, and validates.

    Args:
        settings: settings of the run.
        sample: images of the data.

    Raises:
        TrainingError: the network cannot be built, its weights are unavailable, it does not fit, or
            its loss is not finite.
    """
    run, build_s = _timed_run(settings, _subset(sample, settings.batch_size, batches=1))
    metrics = run.train_epoch()
    if metrics.train_s < _SLOW_STEP_S:
        metrics = run.train_epoch()
    return FirstStep(run, build_s, metrics, _epoch_s(metrics, run.dataset, sample))


def measure_speed(settings: TrainingSettings, sample: DataSample, budget_s: float) -> NetworkSpeed:
    """Trains and validates repeatedly on a few images, as a trial would.

    Args:
        settings: settings of the run, every ``auto`` resolved.
        sample: images of the data.
        budget_s: seconds after which no further pass starts; at least two passes run, or one if a
            single step is slow.

    Raises:
        TrainingError: the network cannot be built, its weights are unavailable, or it does not fit.
    """
    optimizer = settings.optimizer.model_copy(update={"lr": _HARMLESS_LR})
    settings = settings.model_copy(update={"optimizer": optimizer})
    deadline = time.perf_counter() + budget_s
    first = first_step(settings, sample)
    run, build_s, passes = first.run, first.build_s, [first.metrics]
    if first.metrics.train_s < _SLOW_STEP_S:
        batches = max(1, round(_PASS_S / first.metrics.train_s))
        run, build_s = _timed_run(settings, _subset(sample, settings.batch_size, batches))
        passes = [run.train_epoch(), run.train_epoch()]
    while len(passes) < MOST_PASSES and time.perf_counter() < deadline:
        passes.append(run.train_epoch())
    return NetworkSpeed(
        epoch_s=tuple(_epoch_s(measured, run.dataset, sample) for measured in passes),
        build_s=build_s,
        checkpoint_bytes=len(state_to_bytes(run.state())),
        peak_mib=max(measured.peak_memory_mib for measured in passes),
    )


def _timed_run(settings: TrainingSettings, subset: Dataset) -> tuple[TrainingRun, float]:
    """Returns a new run, and the seconds that building it took."""
    started = time.perf_counter()
    # An epoch in which only the head is trained needs less time and memory than the others.
    run = TrainingRun.of(settings.model_copy(update={"freeze_epochs": 0}), subset)
    return run, time.perf_counter() - started


def _subset(sample: DataSample, batch_size: int, batches: int) -> Dataset:
    """Returns data with this many training batches, and the same share of validation images.

    A sample with fewer images is repeated, which costs the same.
    """
    split = sample.dataset.split
    train = min(sample.train, batches * batch_size)
    share = sample.validation * train // max(1, sample.train)
    validation = min(sample.validation, max(share, EVALUATION_BATCH_FACTOR * batch_size))
    subset_split = replace(
        split,
        train=np.resize(split.train, train),
        validation=np.resize(split.validation, validation),
    )
    return replace(sample.dataset, split=subset_split)


def _epoch_s(measured: EpochMetrics, subset: Dataset, sample: DataSample) -> float:
    train = measured.train_s * sample.train / len(subset.split.train)
    validation = measured.validation.seconds * sample.validation
    return train + validation / len(subset.split.validation)
