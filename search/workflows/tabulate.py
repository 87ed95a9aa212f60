"""``canopy tabulate``: trains every point of a finite space, through the stage tree."""

import random
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from canopy_search.filestore.atomic import check_writable
from canopy_search.search.config.space import SearchSpace
from canopy_search.search.errors import StageBusyError
from canopy_search.search.events import BatchDone, Emit, Note, Progress, note_to
from canopy_search.search.progress_display import open_screen
from canopy_search.search.scheduling.factory import grid
from canopy_search.search.simulation.curve_files import write_curves
from canopy_search.search.study.plan import SearchPlan, StartedStudy, plan_search
from canopy_search.search.study.preflight import check_networks, open_data
from canopy_search.search.study.record import package_versions
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.trial.open_tree import open_tree
from canopy_search.search.trial.stage_tree import StageTree
from canopy_search.storage.database import Database
from canopy_search.storage.workers.session import worker_session
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.errors import DivergedError
from canopy_search.training.optimization.accumulation import Accumulation
from canopy_search.training.resolve import resolve_settings
from canopy_search.training.stage_key import ENGINE_REVISION

_ALL_BUSY_S = 1.0

Params = dict[str, Any]


def tabulate(plan: SearchPlan, database: Database, output: Path, emit: Emit) -> int:
    """Trains every point of the space to its last epoch, and writes all learning curves.

    Stored stages are reused, so it can be stopped and resumed, and any number of processes can run
    it at once: each trains points that no other one is training.

    Args:
        plan: the space, data and state folder; sampler, pruner and number of trials do not matter.
        database: opened and migrated.
        output: the Parquet file.
        emit: receives events.

    Returns:
        The number of points.

    Raises:
        SamplerError: the space is not finite, or too large.
    """
    values = grid(plan.space, "canopy tabulate")
    points = [dict(zip(values, point, strict=True)) for point in product(*values.values())]
    dataset = open_data(plan.config.data, plan.workspace.home, emit)
    check_networks(plan.space, dataset)
    training = resolve_settings(plan.space.training, len(dataset.split.train))
    space = SearchSpace(training, plan.space.distributions)
    with (
        worker_session(database.url, throttle=database.throttle) as session,
        open_tree(
            StartedStudy(plan, dataset), database, session, plan.workspace.retrier(note_to(emit))
        ) as tree,
    ):
        accumulations = _train_all(tree, space, points, emit)
        rows = [
            row
            for params in points
            for row in _rows(tree, space, params, accumulations[repr(params)])
        ]
    write_curves(output, rows, space.distributions, _metadata(plan, space, dataset))
    return len(points)


def _train_all(
    tree: StageTree, space: SearchSpace, points: Sequence[Params], emit: Emit
) -> dict[str, tuple[Accumulation, ...]]:
    """Trains every point; points that other workers are training are postponed.

    Returns:
        How each point's batches were split to fit into memory, by the text of its parameters.
    """
    # Workers that start at different points seldom conflict.
    shuffled = list(points)
    random.shuffle(shuffled)
    left = deque(shuffled)
    accumulations: dict[str, tuple[Accumulation, ...]] = {}
    postponed = 0

    def on_batch(epoch: int, done: int, total: int) -> None:
        emit(BatchDone(epoch, done, total))

    while left:
        params = left.popleft()
        cut = accumulations.get(repr(params), ())
        run_path = tree.plan(space.training_settings(params), accumulation=cut)
        try:
            with closing(tree.epochs(run_path, on_batch, wait=False)) as epochs:
                for _ in epochs:
                    tree.write(run_path)
        except DivergedError:
            tree.write(run_path)  # its curve ends there
        except StageBusyError:
            left.append(params)
            postponed += 1
            if postponed >= len(left):
                time.sleep(_ALL_BUSY_S)
                postponed = 0
            continue
        finally:
            accumulations[repr(params)] = run_path.accumulation
        postponed = 0
        emit(Progress("training points", len(points) - len(left), len(points)))
    return accumulations


def _rows(
    tree: StageTree,
    space: SearchSpace,
    params: Params,
    accumulation: Sequence[Accumulation],
) -> list[dict[str, Any]]:
    run_path = tree.plan(space.training_settings(params), accumulation=accumulation)
    return [
        {
            **params,
            "epoch": stage.epoch,
            "stage": stage.key,
            "diverged": stage.diverged,
            **(stage.metrics or {}),
        }
        for stage in run_path.known
    ]


def _metadata(plan: SearchPlan, space: SearchSpace, dataset: Dataset) -> dict[str, Any]:
    """Returns what the curves were trained with, without local paths."""
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


def tabulate_on_screen(request: StudyRequest, output: Path, console: Console) -> int | None:
    """Trains every point of a space and shows the progress.

    Args:
        request: the configuration of the space and the data.
        output: the Parquet file to write.
        console: where the progress is shown.

    Returns:
        The number of points; None if the user interrupted it.
    """
    screen = open_screen(console)
    try:
        plan = plan_search(request, request.configuration.settings.search.trials)
        check_writable(output)
        database = request.workspace.open()
        screen.emit(Note(f"database: {database.place}"))
        return tabulate(plan, database, output, screen.emit)
    except KeyboardInterrupt:
        return None
    finally:
        screen.close()
