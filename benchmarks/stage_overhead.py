"""What the stage tree costs a trial that shares nothing: writing checkpoints, leases, records.

``python -m benchmarks.stage_overhead --runs 3``. Each run trains the same epochs twice, in turn
without and with the tree, and then a second trial that goes on after the first epoch.
"""

import argparse
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.epoch_time import demo
from benchmarks.machine import machine_text, spread_text
from canopy_search.filestore.retry import Retrier, RetryPolicy
from canopy_search.search.config.settings import StagesSettings
from canopy_search.search.environment import state_home
from canopy_search.search.study.checkpoint_place import open_checkpoints
from canopy_search.search.trial.checkpoint_writer import CheckpointWriter
from canopy_search.search.trial.stage_tree import StageTree
from canopy_search.storage.connection.retry import DATABASE
from canopy_search.storage.stages.stages import StageStore
from canopy_search.storage.workers.session import worker_session
from canopy_search.storage.workspace import Workspace
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import TrainingSettings

IMAGE_PX = 64


def main() -> None:
    """Prints a row for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--epochs", type=int, default=3, help="of each trial, two or more")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.epochs < 2:
        parser.error("--epochs: a trial that goes on after epoch 1 needs at least two")
    home = state_home()
    dataset = demo(home, IMAGE_PX, augmented=False)
    database = Workspace(home, None).open()
    print(machine_text())
    print(f"{arguments.backbone}, {IMAGE_PX} px, {arguments.epochs} epochs a trial\n")
    print("| run | epochs alone, s | with the tree, s | ratio | outside of epochs, % | waited, % |")
    print("|---|---|---|---|---|---|")
    shares: list[float] = []
    with worker_session(database.url) as session:
        stages = StageStore(database, session)
        store = open_checkpoints(StagesSettings(), home, database, session.worker)
        for run in range(arguments.runs):
            # A seed of its own, so that no stage is known.
            settings = TrainingSettings(
                backbone=arguments.backbone,
                epochs=arguments.epochs,
                seed=secrets.randbits(31),
                gamma=0.9,
            )
            alone_s, _ = timed(partial(straight, settings, dataset))
            writer = CheckpointWriter(store, print)
            tree = StageTree(stages, writer, dataset, Retrier(RetryPolicy(), DATABASE, note=print))
            epochs_s, wall_s = timed(partial(walk, tree, settings))
            share = 100 * (wall_s - epochs_s) / epochs_s
            shares.append(share)
            waited = 100 * writer.waited_s / epochs_s
            writer.flush()
            other = settings.model_copy(update={"gamma": 0.8})
            resumed_s, resumed_wall_s = timed(partial(walk, tree, other))
            writer.close()
            print(
                f"| {run + 1} | {alone_s:.2f} | {epochs_s:.2f} | {epochs_s / alone_s:.3f} "
                f"| {share:.2f} | {waited:.2f} |"
            )
            print(
                f"|   goes on after epoch 1 |  | {resumed_s:.2f} |  "
                f"| {100 * (resumed_wall_s - resumed_s) / resumed_s:.2f} | |",
                flush=True,
            )
    print(f"\noutside of epochs: {spread_text(shares)} % (building the network included)")


def timed(work: Callable[[], list[dict[str, Any]]]) -> tuple[float, float]:
    """Returns the time of the epochs that were trained, and of everything."""
    started = time.perf_counter()
    metrics = work()
    wall_s = time.perf_counter() - started
    return sum(epoch["train_s"] + epoch["val_s"] for epoch in metrics), wall_s


def straight(settings: TrainingSettings, dataset: Dataset) -> list[dict[str, Any]]:
    """Trains without a tree."""
    run = TrainingRun.of(settings, dataset)
    return [run.train_epoch().as_dict() for _ in range(settings.epochs)]


def walk(tree: StageTree, settings: TrainingSettings) -> list[dict[str, Any]]:
    """Trains what nobody has trained."""
    path = tree.plan(settings)
    metrics = []
    for epoch in tree.epochs(path):
        tree.write(path)
        metrics += [epoch.metrics] if epoch.is_new else []
    return metrics


if __name__ == "__main__":
    main()
