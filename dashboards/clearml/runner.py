"""Runs a mirror, once or in rounds; only one mirror of a study works at a time."""

import random
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from canopy_search.dashboards.clearml.mirror import Mirror, MirrorPlan, MirrorStatus
from canopy_search.dashboards.errors import TrackerUnavailableError
from canopy_search.storage.connection.retry import is_unavailability
from canopy_search.storage.database import Database
from canopy_search.storage.study.mirror_rows import MirrorStore
from canopy_search.storage.study.studies import StudyStore

TICK_S = 3.0
"""Seconds between two rounds."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
BUSY = "another mirror is active for this study; this one waits"

Note = Callable[[str], None]


class Follower:
    """Mirrors a study in rounds, and retries while its server or database is unavailable.

    Args:
        database: an open database.
        plan: what is mirrored, and where to.
        note: called with each message for the user, once per message.
        wait: waits for a number of seconds; returns whether the next round is the last one.
        after_task: called after each update of a task.
        after_round: called with the status of a round, or with the reason why it failed.
    """

    def __init__(  # noqa: PLR0917 - mostly callbacks
        self,
        database: Database,
        plan: MirrorPlan,
        note: Note,
        wait: Callable[[float], bool],
        after_task: Callable[[], object] = lambda: None,
        after_round: Callable[[MirrorStatus | str], object] = lambda _outcome: None,
    ) -> None:
        study_id = StudyStore(database).study_id(plan.study)
        self._database = database
        self._plan = plan
        self._note = note
        self._wait = wait
        self._after_task = after_task
        self._after_round = after_round
        self._store = MirrorStore(database, study_id, plan.server)
        self._mirror: Mirror | None = None
        self._failures = 0
        self._reported: set[str] = set()
        self._recorded: str | None = ""  # what an earlier mirror recorded is unknown
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
                    self._after_round(BUSY)
                return None, TICK_S
            if self._mirror is None:
                self._mirror = Mirror(
                    self._database,
                    self._plan,
                    note=self._note,
                    before_task=has_turn,
                    after_task=self._after_task,
                )
            status = self._mirror.round(last=self._is_last)
            self._on_success(status)
        except TrackerUnavailableError as error:
            return None, self._on_failure(str(error))
        except SQLAlchemyError as error:
            if not is_unavailability(error):
                raise
            self._failures += 1
            return None, self._pause_s()
        return status, TICK_S

    def _on_success(self, status: MirrorStatus) -> None:
        if self._failures and self._reported:
            self._note("ClearML answers again")
        if status.rejected != self._recorded:
            self._store.write_problem(status.rejected)
            self._recorded = status.rejected
        if self._failures:
            self._reported.clear()
        self._failures = 0
        if status.rejected:
            self._note_once(f"ClearML: {status.rejected}")
        self._after_round(status)

    def _on_failure(self, reason: str) -> float:
        """Reports a new problem; returns the seconds to wait before the next round."""
        self._failures += 1
        self._note_once(
            f"ClearML at {self._plan.server}: {reason}; trials continue, the mirror retries"
        )
        if reason != self._recorded:
            self._store.write_problem(reason)
            self._recorded = reason
        self._after_round(reason)
        return self._pause_s()

    def _note_once(self, text: str) -> None:
        if text not in self._reported:
            self._reported.add(text)
            self._note(text)

    def _pause_s(self) -> float:
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10))
        return random.uniform(longest / 2, longest)


def mirror_once(
    database: Database, plan: MirrorPlan, note: Note, after_task: Callable[[], object]
) -> MirrorStatus | None:
    """Mirrors a study as it is now.

    Args:
        database: an open database.
        plan: what is mirrored, and where to.
        note: called with each message for the user.
        after_task: called after each update of a task.

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
        mirror = Mirror(database, plan, note=note, before_task=has_turn, after_task=after_task)
        try:
            status = mirror.round(last=True)
        except TrackerUnavailableError as error:
            store.write_problem(str(error))
            raise
        store.write_problem(status.rejected)
        return status
