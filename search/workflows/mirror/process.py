"""The process of the ClearML mirror: its log, its end, and the events it sends to the search."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canopy_search.dashboards.clearml.credentials import tracker_settings
from canopy_search.dashboards.errors import TrackerConfigError
from canopy_search.search.errors import SearchError
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.workers.graceful_exit import leaving_in_time
from canopy_search.search.workers.logs import LogFile
from canopy_search.storage.database import Database
from canopy_search.storage.errors import UnknownStudyError

if TYPE_CHECKING:
    from canopy_search.dashboards.clearml.mirror import MirrorPlan, MirrorStatus

NOTE, PROGRESS, BEHIND, PROBLEM = "note", "progress", "behind", "problem"
_NICENESS = 10

Emit = Callable[[str, Any], None]


@dataclass(frozen=True)
class MirrorJob:
    """Arguments of the mirror's process.

    Attributes:
        request: the study.
        log: the log file of the process.
    """

    request: StudyRequest
    log: Path


def run_mirror(job: MirrorJob, connection: "Connection[Any, Any]") -> None:
    """Runs the mirror in its own process; any message on `connection` asks it to finish."""
    os.setsid()  # Ctrl-C in the terminal goes to the search
    os.nice(_NICENESS)
    logged: dict[str, Any] = {}

    def emit(kind: str, value: Any) -> None:
        if kind != PROGRESS and logged.get(kind, ...) != value:
            logged[kind] = value
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {kind}: {value}\n")
        send(kind, value)

    def send(kind: str, value: Any) -> None:
        with suppress(OSError):
            connection.send((kind, value))

    log = LogFile(job.log, lambda text: send(NOTE, text))
    log.replace_output()
    parent = parent_process()
    try:
        with leaving_in_time(parent.sentinel if parent else None):
            _mirror(job, connection, emit)
    except KeyboardInterrupt:
        sys.exit(1)
    except (SearchError, TrackerConfigError, UnknownStudyError) as error:
        emit(NOTE, f"the ClearML mirror ends: {error}")
        sys.exit(0)
    except Exception:  # noqa: BLE001 - logged; the search restarts the mirror
        traceback.print_exc(file=log)
        sys.exit(1)


def mirror_plan(
    request: StudyRequest, database: Database, *, is_live: bool, recreate: bool = False
) -> "MirrorPlan | None":
    """Returns what to mirror and where; None if ClearML is not configured.

    Args:
        request: the study.
        database: an open database.
        is_live: whether the mirror follows a running search.
        recreate: whether to recreate tasks that the user deleted.

    Raises:
        TrackerConfigError: ClearML's own configuration cannot be read.
    """
    from canopy_search.dashboards.clearml.mirror import MirrorPlan
    from canopy_search.search.workflows.best_files import best_files

    config = request.configuration.settings
    ours = config.clearml
    tracker = tracker_settings(ours)
    if tracker is None:
        return None
    data = config.data if request.study == config.search.study else None
    return MirrorPlan(
        study=request.study,
        tracker=tracker,
        project=ours.project if ours else None,
        is_live=is_live,
        recreate=recreate,
        attachments=best_files(database, request.workspace.home, data),
    )


def _mirror(job: MirrorJob, connection: "Connection[Any, Any]", emit: Emit) -> None:
    # Imports Plotly and more, which the search, which imports this module too, does not need.
    from canopy_search.dashboards.clearml.mirror import MirrorEvents
    from canopy_search.dashboards.clearml.runner import Follower

    with closing(job.request.workspace.open()) as database:
        plan = mirror_plan(job.request, database, is_live=True)
        if plan is None:
            return

        def after_round(outcome: "MirrorStatus | str") -> None:
            if isinstance(outcome, str):
                emit(PROBLEM, outcome)
            else:
                emit(BEHIND, outcome.behind)

        events = MirrorEvents(
            note=lambda text: emit(NOTE, text),
            after_task=lambda: emit(PROGRESS, None),
            after_round=after_round,
        )
        Follower(database, plan, events, lambda seconds: bool(connection.poll(seconds))).run()
