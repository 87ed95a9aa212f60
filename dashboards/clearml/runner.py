"""A mirror at work: once, or again and again while it lives; alone, or standing by for another."""

import random
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from canopy_search.dashboards.clearml.mirror import Mirror, MirrorPlan, MirrorStatus
from canopy_search.dashboards.errors import TrackerUnavailableError
from canopy_search.storage.connection.retry import is_unavailability
from canopy_search.storage.database import Database
from canopy_search.storage.study.mirrored import MirrorStore
from canopy_search.storage.study.studies import StudyStore

TICK_S = 3.0
"""Seconds between two looks at a study."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
BUSY = "another mirror is at work on this study; this one stands by"

Note = Callable[[str], None]


class Follower:
    """A mirror that looks at its study again and again, whatever its server and database do.

    Args:
        database: an opened one.
        plan: what is mirrored, and to where.
        note: is told what a person should know, each thing once.
        wait: waits for some seconds, and returns whether this is the end: that no round follows
            the next one.
        after_task: is called after each task that was sent something.
        after_round: is called with what a round came to, or with what kept it from going on.
    """

    def __init__(  # noqa: PLR0917 - what is told to whom
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
        self._told: set[str] = set()
        self._recorded: str | None = ""  # what an earlier mirror has left is not known
        self._is_last = False

    def run(self) -> MirrorStatus | None:
        """Mirrors until it is the end, or the study is over and all of it is sent.

        Returns:
            How far it came in the last round; None if that did not come to its end.

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
        """Returns what one round came to, and how long to wait before the next one."""
        try:
            if not has_turn():
                self._say(BUSY)
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
            self._went_well(status)
        except TrackerUnavailableError as error:
            return None, self._went_wrong(str(error))
        except SQLAlchemyError as error:
            if not is_unavailability(error):
                raise
            self._failures += 1
            return None, self._pause_s()
        return status, TICK_S

    def _went_well(self, status: MirrorStatus) -> None:
        if self._failures and self._told:
            self._note("ClearML answers again")
        if status.rejected != self._recorded:
            self._store.write_problem(status.rejected)
            self._recorded = status.rejected
        if self._failures:
            self._told.clear()
        self._failures = 0
        if status.rejected:
            self._say(f"ClearML: {status.rejected}")
        self._after_round(status)

    def _went_wrong(self, reason: str) -> float:
        """Tells what is wrong unless that was told; returns how long to wait."""
        self._failures += 1
        self._say(f"ClearML at {self._plan.server}: {reason}; trials go on, the mirror tries again")
        if reason != self._recorded:
            self._store.write_problem(reason)
            self._recorded = reason
        self._after_round(reason)
        return self._pause_s()

    def _say(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._note(text)

    def _pause_s(self) -> float:
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10))
        return random.uniform(longest / 2, longest)


def mirror_once(
    database: Database, plan: MirrorPlan, note: Note, after_task: Callable[[], object]
) -> MirrorStatus | None:
    """Mirrors a study as it is now.

    Args:
        database: an opened one.
        plan: what is mirrored, and to where.
        note: is told what a person should know.
        after_task: is called after each task that was sent something.

    Returns:
        How far it came; None if another mirror is at work.

    Raises:
        TrackerUnavailableError: the server does not answer; what was sent stays and is not sent
            again.
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
