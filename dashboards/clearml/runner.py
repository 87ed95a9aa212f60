"""Runs a mirror, once or in rounds; only one mirror of a study works at a time."""

import random
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from canopy_search.dashboards.clearml.mirror import Mirror, MirrorEvents, MirrorPlan, MirrorStatus
from canopy_search.dashboards.errors import TrackerUnavailableError
from canopy_search.storage.connection.retry import is_unavailability
from canopy_search.storage.database import Database
from canopy_search.storage.study.mirror_rows import MirrorStore
from canopy_search.storage.study.studies import StudyStore

TICK_S = 3.0
"""Seconds between two rounds."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
BUSY = "another mirror is active for this study; this one waits"


class Follower:
    """Mirrors a study in rounds, and retries while its server or database is unavailable.

    Args:
        database: an open database.
        plan: what is mirrored, and where to.
        events: who is told of its progress; of each message once.
        wait: waits for a number of seconds; returns whether the next round is the last one.
    """

    def __init__(
        self,
        database: Database,
        plan: MirrorPlan,
        events: MirrorEvents,
        wait: Callable[[float], bool],
    ) -> None:
        study_id = StudyStore(database).study_id(plan.study)
        self._database = database
        self._plan = plan
        self._events = events
        self._wait = wait
        self._store = MirrorStore(database, study_id, plan.server)
        self._mirror: Mirror | None = None
        self._failures = 0
        self._reported: set[str] = set()
        self._is_last = False

    def run(self) -> MirrorStatus | None:
        """Mirrors until `wait` ends it, or the study is over and completely sent.

        Returns:
            The status of the last round; None if that round failed.

        Raises:
            UnknownStudyError: the study was deleted.
        """
        with self._store.turn() as has_turn:
            while True:
                status, pause_s = self._step(has_turn)
                if self._is_last or (status and status.is_over and not status.behind):
                    return status
                self._is_last = self._wait(pause_s)

    def _step(self, has_turn: Callable[[], bool]) -> tuple[MirrorStatus | None, float]:
        """Runs one round; returns its status and the seconds to wait before the next one."""
        try:
            if not has_turn():
                self._note_once(BUSY)
                if self._is_last:
                    self._events.after_round(BUSY)
                return None, TICK_S
            if self._mirror is None:
                self._mirror = Mirror(self._database, self._plan, self._events, has_turn)
            try:
                status = self._mirror.round(last=self._is_last)
            except TrackerUnavailableError as error:
                self._on_failure(str(error))
                return None, self._pause_s()
            self._on_success(status)
        except SQLAlchemyError as error:
            if not is_unavailability(error):
                raise
            self._failures += 1
            return None, self._pause_s()
        return status, TICK_S

    def _on_success(self, status: MirrorStatus) -> None:
        if self._failures:
            if self._reported:
                self._events.note("ClearML answers again")
            self._reported.clear()
        self._failures = 0
        self._store.write_problem(status.rejected)
        if status.rejected:
            self._note_once(f"ClearML: {status.rejected}")
        self._events.after_round(status)

    def _on_failure(self, reason: str) -> None:
        self._failures += 1
        self._note_once(
            f"ClearML at {self._plan.server}: {reason}; trials continue, the mirror retries"
        )
        self._store.write_problem(reason)
        self._events.after_round(reason)

    def _note_once(self, text: str) -> None:
        if text not in self._reported:
            self._reported.add(text)
            self._events.note(text)

    def _pause_s(self) -> float:
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10))
        return random.uniform(longest / 2, longest)


def mirror_once(database: Database, plan: MirrorPlan, events: MirrorEvents) -> MirrorStatus | None:
    """Mirrors a study as it is now.

    Args:
        database: an open database.
        plan: what is mirrored, and where to.
        events: who is told of its progress.

    Returns:
        The status afterwards; None if another mirror is active.

    Raises:
        TrackerUnavailableError: the server does not answer; what was sent is recorded, and is not
            sent again.
        UnknownStudyError: there is no such study.
    """
    study_id = StudyStore(database).study_id(plan.study)
    store = MirrorStore(database, study_id, plan.server)
    with store.turn() as has_turn:
        if not has_turn():
            return None
        try:
            status = Mirror(database, plan, events, has_turn).round(last=True)
        except TrackerUnavailableError as error:
            store.write_problem(str(error))
            raise
        store.write_problem(status.rejected)
        return status
