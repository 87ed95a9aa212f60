"""The ClearML mirror of a running search: a monitored background process that never blocks it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from shlex import quote
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from canopy_search.dashboards.clearml.credentials import HOW_TO, TrackerSettings, tracker_settings
from canopy_search.dashboards.clearml.status import MirrorSummary, read_mirror
from canopy_search.dashboards.errors import TrackerConfigError
from canopy_search.dashboards.formatting.values import counted
from canopy_search.dashboards.study.reader import read_trials
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.study.plan import SearchPlan
from canopy_search.search.workers.forkserver import CONTEXT
from canopy_search.search.workers.logs import log_folder
from canopy_search.search.workflows.mirror.process import (
    BEHIND,
    NOTE,
    PROBLEM,
    PROGRESS,
    MirrorJob,
    run_mirror,
)
from canopy_search.storage.errors import StorageError
from canopy_search.storage.study.studies import StudyStore

QUIET_S = 10.0
"""At the end of a search the mirror may catch up, until it sends no event for this long."""
QUIET_PROBLEM_S = 1.0
"""The same if its server did not answer before: enough for one more try."""
LONGEST_END_S = 120.0
_LONGEST_PAUSE_S = 60.0
_POLL_S = 0.1

Note = Callable[[str], None]


def usable_tracker(config: CanopyConfig, note: Note) -> TrackerSettings | None:
    """Returns the settings of the ClearML server, or prints why the study is not mirrored.

    Args:
        config: the whole configuration.
        note: receives the line to print.
    """
    ours = config.clearml
    if ours is not None and not ours.enabled:
        return None
    try:
        settings = tracker_settings(ours)
    except TrackerConfigError as error:
        note(f"ClearML: {error}; nothing is mirrored until this is corrected")
        return None
    if settings is None:
        note(f"ClearML: not configured, nothing is mirrored ({HOW_TO}; canopy mirror catches up)")
        return None
    if not settings.is_usable:
        missing = " and ".join(settings.missing)
        note(
            f"ClearML: {missing} missing, nothing is mirrored ({HOW_TO}; canopy mirror catches up)"
        )
        return None
    return settings


@contextmanager
def mirroring(plan: SearchPlan, store: StudyStore, note: Note) -> Iterator[Callable[[], None]]:
    """Runs the mirror in the background during a search, if ClearML is configured.

    When the search is over, the mirror may catch up briefly; when the search is interrupted, the
    mirror ends at once. No data is lost.

    Args:
        plan: plan of the search.
        store: the studies of the database.
        note: receives messages for the user.

    Yields:
        A function to call regularly: it handles the mirror's events, and restarts the process if it
        died.
    """
    if usable_tracker(plan.config, note) is None:
        yield lambda: None
        return
    log = log_folder(plan.workspace.home, plan.study) / "mirror.log"
    mirror = _BackgroundMirror(
        MirrorJob(plan.request, log),
        note,
        read=lambda: read_mirror(store, read_trials(store, plan.study)),
    )
    try:
        yield mirror.update
        mirror.finish()
    finally:
        mirror.kill()


@dataclass
class _BackgroundMirror:
    """Starts, monitors and ends the mirror's process.

    Args:
        job: the arguments of the process.
        note: receives the mirror's messages for the user.
        read: returns the mirror's progress from the database; None if it has not started.
    """

    job: MirrorJob
    note: Note
    read: Callable[[], MirrorSummary | None]
    _process: ForkServerProcess | None = None
    _events: "Connection[Any, Any] | None" = None
    _failures: int = 0
    _next_start_s: float = 0.0
    _has_ended: bool = False
    _last_event_s: float = field(default_factory=time.monotonic)
    _behind: int | None = None
    _problem: str | None = None

    def update(self) -> None:
        """Handles the mirror's events, starts the process, and restarts it if it died."""
        if self._has_ended:
            return
        self._poll()
        process = self._process
        if process is not None and not process.is_alive():
            self._on_exit(process)
        if self._process is None and not self._has_ended and time.monotonic() >= self._next_start_s:
            self._start()

    def finish(self) -> None:
        """Lets the mirror catch up after the search, and notes it if it does not."""
        started_s = self._last_event_s = time.monotonic()
        self._next_start_s = started_s
        self.update()
        try:
            self._request_end()
            while self._process is not None and self._process.is_alive():
                self._poll()
                now_s = time.monotonic()
                quiet_s = QUIET_S if self._problem is None else QUIET_PROBLEM_S
                if now_s - self._last_event_s > quiet_s or now_s - started_s > LONGEST_END_S:
                    break
                self._process.join(_POLL_S)
            self._poll()
        except KeyboardInterrupt:
            pass  # the search is over anyway
        if self._problem is not None or self._behind != 0:
            why = f" ({self._problem})" if self._problem else ""
            self.note(
                f"ClearML: {self._behind_text()}{why}; resume with: "
                f"canopy mirror --study {quote(self.job.request.study)}"
            )

    def kill(self) -> None:
        """Kills the mirror's process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()
        self._close()

    def _behind_text(self) -> str:
        """Says how many trials are not up to date, according to the database."""
        try:
            summary = self.read()
        except (StorageError, SQLAlchemyError):
            return "some trials may be behind"
        if summary is None:
            return "nothing is mirrored yet"
        return f"{counted(summary.mirrored, 'trial')} mirrored, {summary.behind} behind"

    def _start(self) -> None:
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=run_mirror, args=(self.job, theirs), name="canopy mirror")
        process.start()
        theirs.close()
        self._process, self._events = process, ours

    def _poll(self) -> None:
        events = self._events
        try:
            while events is not None and events.poll():
                kind, value = events.recv()
                self._last_event_s = time.monotonic()
                if kind == NOTE:
                    self.note(value)
                elif kind == BEHIND:
                    self._behind, self._problem, self._failures = value, None, 0
                elif kind == PROBLEM:
                    self._problem = value
                elif kind == PROGRESS:
                    self._problem = None
        except (EOFError, OSError):
            self._close()

    def _on_exit(self, process: ForkServerProcess) -> None:
        self._poll()
        process.join()
        self._process = None
        self._close()
        if process.exitcode == 0:
            self._has_ended = True
            return
        self._failures += 1
        pause_s = min(_LONGEST_PAUSE_S, 2.0 ** (self._failures - 1))
        self._next_start_s = time.monotonic() + pause_s
        if self._failures == 1:
            self.note(f"the ClearML mirror died; a new one starts (log: {self.job.log})")

    def _request_end(self) -> None:
        if self._events is not None:
            with suppress(OSError):
                self._events.send(None)

    def _close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None
