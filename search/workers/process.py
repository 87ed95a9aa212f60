"""The process of one worker: its device, its log, its orders to leave, and what it tells."""

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
from typing import Any

import optuna
from rich.console import Console

from canopy_search.search.errors import SearchError, SearchFailedError
from canopy_search.search.events import SearchWatcher
from canopy_search.search.progress_display import PLAIN_WIDTH, LineScreen
from canopy_search.search.study.plan import SearchPlan, begin_study, join_study
from canopy_search.search.study.preflight import check_networks, open_data
from canopy_search.search.trial.objective import failure_reason
from canopy_search.search.workers.backend import ENDED, FAILED
from canopy_search.search.workers.event_pipe import EventPipe
from canopy_search.search.workers.graceful_exit import leaving_in_time
from canopy_search.search.workers.loop import open_objective, work
from canopy_search.storage.connection.retry import RetryPolicy
from canopy_search.storage.database import open_database
from canopy_search.storage.errors import StorageError
from canopy_search.storage.study.studies import StudyStore
from canopy_search.training.errors import TrainingError

INTERRUPTED = 130


@dataclass(frozen=True)
class WorkerJob:
    """What a worker's process is started with.

    Attributes:
        plan: of the search.
        url: of the database; None for the embedded one.
        environment: of the process.
        log: the file that it writes to.
        begins: whether it begins the study if nobody has.
    """

    plan: SearchPlan
    url: str | None = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    begins: bool = False


def run_worker(job: WorkerJob, connection: "Connection[Any, Any]") -> None:
    """The whole life of a worker's process; tells the launcher of every event."""
    os.setsid()  # Ctrl-C in the terminal is the launcher's
    os.environ.clear()
    os.environ.update(job.environment)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    log = job.log.open("a", buffering=1, encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log.fileno(), stream.fileno())
    lines = LineScreen(Console(file=log, width=PLAIN_WIDTH, color_system=None))
    lines.note(f"{time.strftime('%Y-%m-%d %H:%M:%S')} worker {os.getpid()} begins")
    watcher = EventPipe(lines, connection)
    parent = multiprocessing.parent_process()
    try:
        with leaving_in_time(parent.sentinel if parent else None):
            # Who begins the study is the first to see the data, and tells of it.
            preparing = None if job.begins else lines
            search_in_study(job.plan, job.url, watcher, preparing=preparing, begins=job.begins)
    except KeyboardInterrupt:
        lines.note("leaves; what it was at goes on elsewhere")
        sys.exit(INTERRUPTED)
    except (SearchError, StorageError, TrainingError) as error:
        lines.note(str(error))
        is_everywhere = isinstance(error, SearchFailedError)
        watcher.emit(FAILED, str(error), is_everywhere)
        sys.exit(error.exit_status)
    except Exception as error:  # noqa: BLE001 - told, and the launcher begins another worker
        traceback.print_exc()
        watcher.emit("note", f"this should not have happened: {failure_reason(error)}")
        sys.exit(1)
    lines.note("nothing is left to do")
    watcher.emit(ENDED)


def search_in_study(
    plan: SearchPlan,
    url: str | None,
    watcher: SearchWatcher,
    *,
    preparing: SearchWatcher | None = None,
    begins: bool = False,
) -> None:
    """Works on a study, until nothing is left to do.

    Args:
        plan: of the search.
        url: of the database; None for the embedded one.
        watcher: is told what happens.
        preparing: is told of the data, where somebody else has shown that already.
        begins: whether to begin the study if nobody has.

    Raises:
        StudyDiffersError: data, settings or versions are not the study's.
        TrainingError: the data cannot be used, or a network does not fit.
        SearchFailedError: too many trials failed.
        DatabaseUnavailableError: the database was away for too long.
    """
    retry_policy = RetryPolicy(plan.retry_for_s, note=watcher.note)
    database = retry_policy.call(lambda: open_database(plan.home, url))
    retry_policy.revive = database.revive
    database.throttle.release_when_idle()  # until it is known how many others want a connection
    with closing(database):
        dataset = open_data(plan.config.data, plan.home, preparing or watcher)
        if begins:
            check_networks(plan.space, dataset)
        enter = begin_study if begins else join_study
        begun = retry_policy.call(lambda: enter(plan, StudyStore(database), dataset))
        with open_objective(begun, database, watcher, retry_policy) as objective:
            work(plan, objective, retry_policy)
