"""Mirrors in the test's own process, or in one that can be killed."""

import multiprocessing
import threading
from contextlib import closing
from multiprocessing.context import ForkProcess
from pathlib import Path

from canopy_search.dashboards.clearml.credentials import tracker_settings
from canopy_search.dashboards.clearml.mirror import MirrorEvents, MirrorPlan, MirrorStatus
from canopy_search.dashboards.clearml.runner import Follower, mirror_once
from canopy_search.storage.workspace import Workspace

PATIENCE_S = 240.0
PROJECT = "Canopy/{study}"
_FORK = multiprocessing.get_context("fork")  # a start of Python costs eight seconds
_LONGEST_PAUSE_S = 0.1


class MirrorHere:
    """A mirror that waits for moments where a real one waits for seconds.

    Args:
        home: a state folder.
        url: of the database.
        study: name of the study.
        is_live: whether it follows a search.
        recreate: whether to make tasks again that a person deleted.
    """

    def __init__(
        self, home: Path, url: str, study: str, *, is_live: bool = True, recreate: bool = False
    ) -> None:
        self._home, self._url = home, url
        tracker = tracker_settings()
        assert tracker is not None
        self.plan = MirrorPlan(study, tracker, is_live=is_live, recreate=recreate)
        self.notes: list[str] = []
        self.outcomes: list[MirrorStatus | str] = []
        self.status: MirrorStatus | None = None
        self.failure: BaseException | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> "MirrorHere":
        """Follows the study on a thread until it is over, or `stop`."""
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def wait(self) -> MirrorStatus:
        """Waits until the study is over and all of it is sent."""
        assert self._thread is not None
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), f"the mirror is not done: {self.outcomes[-3:]}"
        if self.failure is not None:
            raise self.failure
        assert self.status is not None
        return self.status

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(PATIENCE_S)

    def once(self) -> MirrorStatus | None:
        """Mirrors the study as it is now."""
        with closing(Workspace(self._home, self._url).open()) as database:
            return mirror_once(database, self.plan, MirrorEvents(self.notes.append))

    def process(self) -> ForkProcess:
        """Returns a process that follows the study as `start` does, started."""
        process = _FORK.Process(target=self._follow, daemon=True)
        process.start()
        return process

    def _follow(self) -> None:
        try:
            with closing(Workspace(self._home, self._url).open()) as database:
                follower = Follower(
                    database,
                    self.plan,
                    MirrorEvents(self.notes.append, after_round=self.outcomes.append),
                    lambda seconds: self._ended.wait(min(seconds, _LONGEST_PAUSE_S)),
                )
                self.status = follower.run()
        except BaseException as error:  # noqa: BLE001 - for the test to see
            self.failure = error
