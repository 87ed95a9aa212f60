"""Workers of a stage tree on noise, each with its own session."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from canopy_search.search.trial.checkpoint_writer import CheckpointWriter
from canopy_search.search.trial.stage_tree import RunEpoch, RunPath, StageTree
from canopy_search.storage.workers.session import WorkerSession
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import TrainingSettings
from tests.noise_data import noise_dataset

MEASURED = {"train_s", "val_s", "wait_s", "images_per_s", "peak_memory_mib"}


RESOLVED = {"device": "cpu", "precision": "fp32", "threads": 1, "compile": "off"}


def tiny_settings(**values: Any) -> TrainingSettings:
    """One run of three epochs on one thread, unless `values` say otherwise."""
    run = {"backbone": "tinycnn_8", "epochs": 3, "batch_size": 8, "optimizer": {"lr": 0.01}}
    return TrainingSettings.model_validate(RESOLVED | run | values)


def tiny_dataset() -> Dataset:
    return noise_dataset(train=16, validation=6, test=2)


class Notes(list[str]):
    """What a worker was told, and what then happens."""

    on_note: Callable[[], None] | None = None

    def append(self, text: str) -> None:
        super().append(text)
        if self.on_note is not None:
            self.on_note()


@dataclass
class Worker:
    """One worker with its own session, and what it was told."""

    tree: StageTree
    writer: CheckpointWriter
    session: WorkerSession
    notes: Notes = field(default_factory=Notes)

    def run_path(self, settings: TrainingSettings, **options: Any) -> list[RunEpoch]:
        return self.go(self.tree.plan(settings), **options)

    def go(self, run_path: RunPath, **options: Any) -> list[RunEpoch]:
        """Walks to the end of a run, and writes every epoch."""
        epochs = []
        try:
            for epoch in self.tree.epochs(run_path, **options):
                self.tree.write(run_path)
                epochs.append(epoch)
        finally:
            self.tree.write(run_path)
        return epochs


Hire = Callable[..., Worker]


def numbers(epochs: list[RunEpoch]) -> list[dict[str, Any]]:
    """The metrics that a repetition must have, too."""
    return [_without_times(epoch.metrics) for epoch in epochs]


def straight(settings: TrainingSettings) -> list[dict[str, Any]]:
    """What a run without any tree gives."""
    return straight_run(settings, [1] * settings.epochs)[1]


def straight_run(
    settings: TrainingSettings, steps: list[int]
) -> tuple[TrainingRun, list[dict[str, Any]]]:
    """A run without any tree, and what it gives; each epoch's batches are cut as `steps` say."""
    run = TrainingRun.of(settings, tiny_dataset())
    metrics = []
    for each in steps:
        run.accumulation = each
        metrics.append(_without_times(run.train_epoch().as_dict()))
    return run, metrics


def _without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name not in MEASURED}


def weights_digest(run: TrainingRun) -> str:
    sha = hashlib.sha256()
    for tensor in run.model.state_dict().values():
        sha.update(tensor.numpy().tobytes())
    return sha.hexdigest()
