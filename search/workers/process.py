"""The process of one worker: its environment, its log, its exit and its events."""

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO, cast

import optuna

from canopy_search.search.console import log_console
from canopy_search.search.errors import (
    AcceleratorFailedError,
    SearchError,
    SearchFailedError,
    SickWorkerError,
)
from canopy_search.search.events import Emit, Ending, Note, WorkerEnded, note_to
from canopy_search.search.progress_display import LineScreen
from canopy_search.search.scheduling.next_trial import SearchEnd
from canopy_search.search.study.plan import SearchPlan, join_study, start_study
from canopy_search.search.study.preflight import check_networks, open_data
from canopy_search.search.trial.objective import failure_reason
from canopy_search.search.workers.command import INTERRUPTED
from canopy_search.search.workers.event_pipe import EventPipe
from canopy_search.search.workers.graceful_exit import leaving_in_time
from canopy_search.search.workers.logs import LogFile
from canopy_search.search.workers.loop import open_objective, work
from canopy_search.storage.errors import StorageError
from canopy_search.storage.study.studies import StudyStore
from canopy_search.training.device.device_cache import share_gpu
from canopy_search.training.device.gpu import open_gpu
from canopy_search.training.device.precision import resolve_device
from canopy_search.training.errors import TrainingError


@dataclass(frozen=True)
class WorkerJob:
    """Arguments of a worker's process.

    Attributes:
        plan: plan of the search.
        environment: environment variables of the process.
        log: file that it writes to.
    """

    plan: SearchPlan
    environment: Mapping[str, str] = field(repr=False)
    log: Path


def run_worker(job: WorkerJob, connection: "Connection[Any, Any]") -> None:
    """Main function of a worker's process; sends every event to the launcher."""
    os.setsid()  # only the launcher handles Ctrl-C in the terminal
    os.environ.clear()
    os.environ.update(job.environment)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pipe = EventPipe(connection)
    log = LogFile(job.log, note_to(pipe.emit))
    log.replace_output()
    lines = LineScreen(log_console(cast("TextIO", log)))
    lines.emit(Note(f"{time.strftime('%Y-%m-%d %H:%M:%S')} worker {os.getpid()} started"))
    pipe.log = lines.emit
    parent = multiprocessing.parent_process()
    try:
        with leaving_in_time(parent.sentinel if parent else None):
            # The launcher has read the data first, and shown the progress.
            end = search_in_study(job.plan, pipe.emit, preparing=lines.emit)
    except KeyboardInterrupt:
        lines.emit(Note("leaving; another worker resumes its trial"))
        sys.exit(INTERRUPTED)
    except (SearchError, StorageError, TrainingError) as error:
        lines.emit(Note(str(error)))
        pipe.emit(WorkerEnded(ending_of(error), str(error)))
        sys.exit(error.exit_status)
    except Exception as error:  # noqa: BLE001 - reported, and the launcher starts another worker
        traceback.print_exc()
        pipe.emit(Note(f"internal error: {failure_reason(error)}"))
        sys.exit(1)
    lines.emit(Note(f"study {job.plan.study}: {end.value}"))
    pipe.emit(WorkerEnded(Ending.DONE))


def ending_of(error: Exception) -> Ending:
    """Returns what an error of a worker means for the other workers of the study."""
    match error:
        case SearchFailedError():
            return Ending.FAILED
        case SickWorkerError():
            return Ending.SICK
        case AcceleratorFailedError():
            return Ending.DIED
        case _:
            return Ending.UNFIT


def search_in_study(
    plan: SearchPlan,
    emit: Emit,
    *,
    preparing: Emit | None = None,
    creates_study: bool = False,
) -> SearchEnd:
    """Works on a study until nothing is left to do, and returns why.

    Args:
        plan: plan of the search.
        emit: receives the events.
        preparing: receives the progress of reading the data; None for `emit`.
        creates_study: whether to create the study if it does not exist.

    Raises:
        StudyDiffersError: data, settings or versions differ from the study's.
        TrainingError: the data cannot be used, or a network does not fit.
        SearchFailedError: too many trials failed.
        SickWorkerError: too many trials failed on this worker, while others are healthy.
        AcceleratorFailedError: this process can no longer use its accelerator.
        DatabaseUnavailableError: the database was unavailable for too long.
    """
    if resolve_device(plan.config.training.device).type == "cuda":
        open_gpu()
        share_gpu(plan.workers_on_device or plan.config.search.slots_per_gpu)
    retrier = plan.workspace.retrier(note_to(emit))
    database = retrier.call(plan.workspace.open)
    database.throttle.release_when_idle()  # until the number of other workers is known
    with closing(database):
        dataset = open_data(plan.config.data, plan.workspace.home, preparing or emit)
        if creates_study:
            check_networks(plan.space, dataset)
        open_study = start_study if creates_study else join_study
        study = retrier.call(lambda: open_study(plan, StudyStore(database), dataset))
        with open_objective(study, database, emit, retrier) as objective:
            return work(study.plan, objective, retrier)
