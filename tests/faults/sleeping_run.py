"""A training run that sleeps: its numbers follow from its settings, its state is one number."""

import hashlib
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from canopy_search.training.checkpoint import RunState
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.optimization.schedules import exponential_lr
from canopy_search.training.resolve import resolve_settings
from canopy_search.training.run import BatchProgress
from canopy_search.training.settings import TrainingSettings

BATCHES = 4
_LOOK_S = 0.02
_DIGITS = 12


@dataclass(frozen=True)
class SleptEpoch:
    """What `training.metrics.EpochMetrics` is to a real run."""

    metrics: dict[str, Any]
    validation_logits: NDArray[np.float32]

    def as_dict(self) -> dict[str, Any]:
        return self.metrics


class SleepingRun:
    """Stands in for `training.run.TrainingRun`.

    Each state follows from the one before and the epoch's learning rate, as a stage key does, so a
    run that goes on from a wrong checkpoint or leaves an epoch out gives other numbers. Every epoch
    that begins and ends adds a line to a diary. While there is a gate, a file, the epoch of the
    number in it and later ones, counted over all processes as they begin, wait in their middle.
    """

    epoch_s = 0.05
    diary: Path | None = None
    gate: Path | None = None

    def __init__(self, settings: TrainingSettings, dataset: Dataset) -> None:
        self.settings = resolve_settings(settings)
        self.epoch = 0
        self._number = first_number(self.settings)
        self._shape = (len(dataset.split.validation), len(dataset.labels))

    @property
    def is_finished(self) -> bool:
        return self.epoch >= self.settings.epochs

    def train_epoch(self, on_batch: BatchProgress | None = None) -> SleptEpoch:
        settings, epoch = self.settings, self.epoch + 1
        following = next_number(self._number, settings, epoch)
        self._note("begins", following)
        at = self._count(following)
        for done in range(1, BATCHES + 1):
            time.sleep(self.epoch_s / BATCHES)
            if on_batch is not None:
                on_batch(epoch, done, BATCHES)
            while done == BATCHES // 2 and at >= _first_to_wait(self.gate):
                time.sleep(_LOOK_S)
                if on_batch is not None:  # it is no stall
                    on_batch(epoch, done, BATCHES)
        self.epoch, self._number = epoch, following
        self._note("ends", following)
        logits = np.full(self._shape, following, dtype=np.float32)
        return SleptEpoch(metrics_at(following, settings, epoch), logits)

    def state(self) -> RunState:
        number = torch.tensor([self._number], dtype=torch.int64)
        return RunState(epoch=self.epoch, model={"number": number}, optimizer={}, scaler={})

    def restore(self, state: RunState) -> None:
        self.epoch, self._number = state["epoch"], int(state["model"]["number"])

    def _note(self, what: str, number: int) -> None:
        if self.diary is not None:
            with self.diary.open("a") as diary:  # one write, which is whole or not there
                diary.write(f"{what} {number} {os.getpid()}\n")

    def _count(self, number: int) -> int:
        """Returns as the how manieth the epoch under way has begun."""
        if self.diary is None:
            return 0
        began = [line for line in self.diary.read_text().splitlines() if line.startswith("begins ")]
        return max(
            at for at, line in enumerate(began, 1) if line == f"begins {number} {os.getpid()}"
        )


def _first_to_wait(gate: Path | None) -> float:
    try:
        return float(gate.read_text()) if gate is not None else math.inf
    except FileNotFoundError:
        return math.inf


def first_number(settings: TrainingSettings) -> int:
    return _hashed(settings.loss, settings.batch_size, settings.seed, settings.optimizer.name)


def next_number(number: int, settings: TrainingSettings, epoch: int) -> int:
    lr = exponential_lr(settings.optimizer.lr, settings.gamma, epoch - 1)
    return _hashed(number, lr.hex())


def metrics_at(number: int, settings: TrainingSettings, epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "lr": exponential_lr(settings.optimizer.lr, settings.gamma, epoch - 1),
        "val_ap": number / 16**_DIGITS,
        "train_s": 0.04,
        "val_s": 0.01,
    }


def expected_values(settings: TrainingSettings, epochs: int) -> dict[int, float]:
    """Returns the validation AP of every epoch, by the epoch."""
    number, values = first_number(settings), {}
    for epoch in range(1, epochs + 1):
        number = next_number(number, settings, epoch)
        values[epoch] = metrics_at(number, settings, epoch)["val_ap"]
    return values


def epochs_in(diary: Path, what: str) -> list[str]:
    """Returns which epochs have begun or ended, in their order."""
    lines = diary.read_text().splitlines() if diary.exists() else []
    return [number for word, number, _ in map(str.split, lines) if word == what]


def _hashed(*values: object) -> int:
    return int(hashlib.sha256(repr(values).encode()).hexdigest()[:_DIGITS], 16)
