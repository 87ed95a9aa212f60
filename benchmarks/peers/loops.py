"""The two training loops that a peer may have: its own, as it is shipped, and Canopy's."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from benchmarks.peers.task import RealSearch
from benchmarks.peers.torch_training import TorchTraining
from canopy_search.search.config.space import SearchSpace
from canopy_search.search.study.configuration import load_config
from canopy_search.training.data.dataset import open_dataset
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import SplitSettings


class Training(Protocol):
    """Trains settings, one after the other."""

    @property
    def space(self) -> SearchSpace:
        """What is searched, and the settings that are not."""

    def epochs(self, params: dict[str, Any]) -> Iterator[tuple[float, float]]:
        """Trains one setting from scratch; yields validation AP and seconds of every epoch."""

    def epochs_with_state(
        self, params: dict[str, Any], state: Any
    ) -> Iterator[tuple[Any, float, float]]:
        """Likewise, from a checkpoint's content on; yields what the next one holds, too."""


def training_of(search: RealSearch, loader_workers: int) -> Training:
    """Returns the loop that a peer trains by.

    Args:
        search: says which, and on what.
        loader_workers: processes that load images for a loop of PyTorch's tutorials.
    """
    if search.own_loop:
        return TorchTraining(
            search.data, search.config, threads=search.threads, loader_workers=loader_workers
        )
    return CanopyTraining(search.data, search.config, search.threads)


class CanopyTraining:
    """Canopy's own training loop for whoever calls it, without stages, workers and database.

    Args:
        folder: of the data, where the decoded images are kept, too.
        config: Canopy's configuration of what is trained.
        threads: torch's.
    """

    def __init__(self, folder: Path, config: Path, threads: int) -> None:
        read = load_config(config)
        self.space = read.space
        self._threads = threads
        data = read.settings.data.model_copy(
            update={
                "labels": folder / "labels.csv",
                "images": folder / "images",
                "split": SplitSettings(column="split"),
            }
        )
        self.dataset = open_dataset(data, folder / "decoded")

    def epochs(self, params: dict[str, Any]) -> Iterator[tuple[float, float]]:
        """See `Training`."""
        for _, val_ap, seconds in self.epochs_with_state(params, None):
            yield val_ap, seconds

    def epochs_with_state(
        self, params: dict[str, Any], state: Any
    ) -> Iterator[tuple[Any, float, float]]:
        """See `Training`."""
        run = self.run(params)
        if state is not None:
            run.restore(state)
        while not run.is_finished:
            began = time.perf_counter()
            ap = run.train_epoch().validation.metrics.ap
            seconds = time.perf_counter() - began
            yield run.state(), float("nan") if ap is None else ap, seconds

    def run(self, params: dict[str, Any]) -> TrainingRun:
        """Returns the training run of a setting, at its beginning."""
        settings = self.space.training_settings(params)
        return TrainingRun.of(settings.model_copy(update={"threads": self._threads}), self.dataset)
