"""``canopy tabulate``: trains every point of a finite space, through the stage tree."""

import random
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

from canopy_search.search.errors import StageBusyError
from canopy_search.search.events import SearchWatcher
from canopy_search.search.open_tree import open_tree
from canopy_search.search.plan import SearchPlan
from canopy_search.search.preparation import check_networks, open_data
from canopy_search.search.record import package_versions
from canopy_search.search.sampling import grid
from canopy_search.search.simulation.curve_files import write_curves
from canopy_search.search.space import SearchSpace
from canopy_search.search.stage_tree import StageTree
from canopy_search.storage.database import Database
from canopy_search.storage.outages import Patience
from canopy_search.storage.worker_session import worker_session
from canopy_search.training.accumulation import Accumulation
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.errors import DivergedError
from canopy_search.training.resolve import resolve_settings
from canopy_search.training.stage_key import ENGINE_REVISION

_ALL_BUSY_S = 1.0

Params = dict[str, Any]


def tabulate(plan: SearchPlan, database: Database, output: Path, watcher: SearchWatcher) -> int:
    """Trains every point of the space to its last epoch, and writes all learning curves.

    What is known is not trained again, so it can be stopped and goes on, and any number of workers
    can do it at once: each trains what no other one is training.

    Args:
        plan: the space, data and state folder; sampler, pruner and number of trials do not matter.
        database: opened and migrated.
        output: the Parquet file.
        watcher: is told what happens.

    Returns:
        The number of points.

    Raises:
        SamplerError: the space is not finite, or too large.
    """
    values = grid(plan.space, "canopy tabulate")
    points = [dict(zip(values, point, strict=True)) for point in product(*values.values())]
    dataset = open_data(plan.config.data, plan.home, watcher)
    check_networks(plan.space, dataset)
    training = resolve_settings(plan.space.training, len(dataset.split.train))
    space = SearchSpace(training, plan.space.distributions)
    with (
        worker_session(database.url, thrift=database.thrift) as session,
        open_tree(
            plan.config.stages,
            plan.home,
            database,
            session,
            dataset,
            patience=Patience(plan.patience_s, revive=database.revive, note=watcher.note),
            note=watcher.note,
        ) as tree,
    ):
        accumulations = _train_all(tree, space, points, watcher)
        rows = [
            row
            for params in points
            for row in _rows(tree, space, params, accumulations[repr(params)])
        ]
    write_curves(output, rows, space.distributions, _about(plan, space, dataset))
    return len(points)


def _train_all(
    tree: StageTree, space: SearchSpace, points: Sequence[Params], watcher: SearchWatcher
) -> dict[str, tuple[Accumulation, ...]]:
    """Walks every point; those that others are at are put off.

    Returns:
        How the batches of each point had to be cut to fit into memory, by its parameters' text.
    """
    # Workers that begin at different points seldom meet.
    shuffled = list(points)
    random.shuffle(shuffled)
    left = deque(shuffled)
    accumulations: dict[str, tuple[Accumulation, ...]] = {}
    put_off = 0
    while left:
        params = left.popleft()
        cut = accumulations.get(repr(params), ())
        walk = tree.plan(space.training_settings(params), accumulation=cut)
        try:
            with closing(tree.epochs(walk, watcher.batch_done, wait=False)) as epochs:
                for _ in epochs:
                    tree.write(walk)
        except DivergedError:
            tree.write(walk)  # that is its curve
        except StageBusyError:
            left.append(params)
            put_off += 1
            if put_off >= len(left):
                time.sleep(_ALL_BUSY_S)
                put_off = 0
            continue
        finally:
            accumulations[repr(params)] = walk.accumulation
        put_off = 0
        watcher.progress("training points", len(points) - len(left), len(points))
    return accumulations


def _rows(
    tree: StageTree,
    space: SearchSpace,
    params: Params,
    accumulation: Sequence[Accumulation],
) -> list[dict[str, Any]]:
    walk = tree.plan(space.training_settings(params), accumulation=accumulation)
    return [
        {
            **params,
            "epoch": stage.epoch,
            "stage": stage.key,
            "diverged": stage.diverged,
            **(stage.metrics or {}),
        }
        for stage in walk.known
    ]


def _about(plan: SearchPlan, space: SearchSpace, dataset: Dataset) -> dict[str, Any]:
    """Says what the curves are of, without a path of anybody's machine."""
    return {
        "epochs": space.training.epochs,
        "study": plan.study,
        "engine_revision": ENGINE_REVISION,
        "training": space.training.model_dump(mode="json"),
        "data": {
            "fingerprint": dataset.fingerprint,
            "image_px": dataset.image_px,
            "labels": list(dataset.labels),
            "train": len(dataset.split.train),
            "validation": len(dataset.split.validation),
        },
        "versions": package_versions(),
    }
