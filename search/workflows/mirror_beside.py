"""The mirror in ClearML beside a search: a process of its own, watched, and never waited for."""

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
from canopy_search.dashboards.formatting.tables import counted
from canopy_search.dashboards.study.summary import summarize_study
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.study.plan import SearchPlan
from canopy_search.search.workers.forkserver import CONTEXT
from canopy_search.search.workers.logs import log_folder
from canopy_search.search.workflows.mirror_process import (
    BEHIND,
    NOTE,
    PROGRESS,
    WRONG,
    MirrorJob,
    run_mirror,
)
from canopy_search.storage.errors import StorageError
from canopy_search.storage.study.studies import StudyStore

QUIET_S = 10.0
"""At the end of a search the mirror may catch up, but not be silent for as long."""
QUIET_WRONG_S = 1.0
"""Likewise where its server did not answer before: enough for one more try."""
LONGEST_END_S = 120.0
_LONGEST_PAUSE_S = 60.0
_POLL_S = 0.1

Note = Callable[[str], None]


def usable_tracker(config: CanopyConfig, note: Note) -> TrackerSettings | None:
    """Returns how ClearML is reached, or says in one line why a study is not mirrored.

    Args:
        config: the whole configuration.
        note: is told.
    """
    ours = config.clearml
    if ours is not None and not ours.enabled:
        return None
    try:
        settings = tracker_settings(ours.api_server if ours else None)
    except TrackerConfigError as error:
        note(f"ClearML: {error}; nothing is mirrored until it is corrected")
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
def mirroring(
    plan: SearchPlan, url: str | None, store: StudyStore, note: Note
) -> Iterator[Callable[[], None]]:
    """Runs the mirror beside a search, if ClearML is configured.

    When the search is over the mirror may catch up for a moment; when it is interrupted the mirror
    ends at once. It loses nothing by that.

    Args:
        plan: of the search.
        url: of the database; None for the embedded one.
        store: of the database.
        note: is told what a person should know.

    Yields:
        What is to be called now and then: it passes on what the mirror tells, and replaces it if it
        died.
    """
    if usable_tracker(plan.config, note) is None:
        yield lambda: None
        return
    log = log_folder(plan.home, plan.study) / "mirror.log"
    beside = _MirrorBeside(
        MirrorJob(plan.config, plan.home, plan.study, url, log),
        note,
        read=lambda: read_mirror(store, summarize_study(store, plan.study)),
    )
    try:
        yield beside.look
        beside.finish()
    finally:
        beside.kill()


@dataclass
class _MirrorBeside:
    """The mirror's process.

    Args:
        job: what it is to do.
        note: is told what it tells.
        read: returns how far it is, by what it has recorded; None if it has not begun.
    """

    job: MirrorJob
    note: Note
    read: Callable[[], MirrorSummary | None]
    _process: ForkServerProcess | None = None
    _events: "Connection[Any, Any] | None" = None
    _deaths: int = 0
    _again_s: float = 0.0
    _has_ended: bool = False
    _heard_s: float = field(default_factory=time.monotonic)
    _behind: int | None = None
    _wrong: str | None = None

    def look(self) -> None:
        """Passes on what the mirror tells, starts it, and replaces it if it died."""
        if self._has_ended:
            return
        self._poll()
        process = self._process
        if process is not None and not process.is_alive():
            self._on_exit(process)
        if self._process is None and not self._has_ended and time.monotonic() >= self._again_s:
            self._start()

    def finish(self) -> None:
        """Lets the mirror catch up with a search that is over, and says so if it does not."""
        began_s = self._heard_s = time.monotonic()
        self._again_s = began_s
        self.look()
        try:
            self._say_over()
            while self._process is not None and self._process.is_alive():
                self._poll()
                now_s = time.monotonic()
                quiet_s = QUIET_S if self._wrong is None else QUIET_WRONG_S
                if now_s - self._heard_s > quiet_s or now_s - began_s > LONGEST_END_S:
                    break
                self._process.join(_POLL_S)
            self._poll()
        except KeyboardInterrupt:
            pass  # the search is over all the same
        if self._wrong is not None or self._behind != 0:
            why = f" ({self._wrong})" if self._wrong else ""
            self.note(
                f"ClearML: {self._behind_text()}{why}; go on with: "
                f"canopy mirror --study {quote(self.job.study)}"
            )

    def kill(self) -> None:
        """Ends the mirror, whatever it is at."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()
        self._close()

    def _behind_text(self) -> str:
        """Says how many trials are not as they should be, by what the database has recorded."""
        try:
            mirror = self.read()
        except (StorageError, SQLAlchemyError):
            return "some trials may be behind"
        if mirror is None:
            return "nothing is mirrored yet"
        return f"{counted(mirror.mirrored, 'trial')} mirrored, {mirror.behind} behind"

    def _start(self) -> None:
        ours, theirs = CONTEXT.Pipe()
        self.job.log.parent.mkdir(parents=True, exist_ok=True)
        process = CONTEXT.Process(target=run_mirror, args=(self.job, theirs), name="canopy mirror")
        process.start()
        theirs.close()
        self._process, self._events = process, ours

    def _poll(self) -> None:
        event = self._events
        try:
            while event is not None and event.poll():
                kind, value = event.recv()
                self._heard_s = time.monotonic()
                if kind == NOTE:
                    self.note(value)
                elif kind == BEHIND:
                    self._behind, self._wrong, self._deaths = value, None, 0
                elif kind == WRONG:
                    self._wrong = value
                elif kind == PROGRESS:
                    self._wrong = None
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
        self._deaths += 1
        pause_s = min(_LONGEST_PAUSE_S, 2.0 ** (self._deaths - 1))
        self._again_s = time.monotonic() + pause_s
        if self._deaths == 1:
            self.note(f"the mirror in ClearML ended; another one begins (log: {self.job.log})")

    def _say_over(self) -> None:
        if self._events is not None:
            with suppress(OSError):
                self._events.send(None)

    def _close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None
