"""Has workers placed, watches and replaces them, and shows what they do."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from canopy_search.search.errors import SearchFailedError, UnfitMachineError
from canopy_search.search.placement.engine import (
    ENDED,
    FAILED,
    GONE,
    LEFT,
    LOG,
    Engine,
    PlacedWorker,
    Post,
    Told,
)

MOST_DEATHS = 5
"""A worker that dies so often, one time after the other and each time soon, is given up."""
SOON_S = 60.0
UNFIT_PAUSE_S = 60.0
"""What keeps a machine from working may be mended; it is tried again after as long as this."""
_FIRST_PAUSE_S = 1.0
_TICK_S = 0.5


class WorkersScreen(Protocol):
    """Shows what several workers do."""

    def tell(self, worker: str, event: str, *arguments: Any) -> None:
        """Shows an event of one of them; `event` is the name of a method of `SearchWatcher`."""

    def worker_gone(self, worker: str) -> None:
        """A worker is over."""

    def note(self, text: str) -> None:
        """Shows what a person should know."""


@dataclass
class _Place:
    """A post and the worker that is on it.

    Attributes:
        index: counts from 1.
        post: where.
        log: what all workers on it write to.
        worker: unless there is none now.
        speakers: who of it has told something.
        began_s: when it was placed.
        deaths: how many died here one after the other, each soon.
        again_s: when the next one is placed.
        has_ended: whether nothing is left to do.
        has_left: whether it left by itself.
        failure: why no worker can go on, if it said so.
        unfit: why none can work on this post.
    """

    index: int
    post: Post
    log: Path
    worker: PlacedWorker | None = None
    speakers: set[str] = field(default_factory=set)
    began_s: float = 0.0
    deaths: int = 0
    again_s: float = 0.0
    has_ended: bool = False
    has_left: bool = False
    failure: str | None = None
    unfit: str | None = None

    @property
    def name(self) -> str:
        """Says which worker it is."""
        return f"worker {self.index}" + (f" on {self.post.host}" if self.post.host else "")

    @property
    def is_at_work(self) -> bool:
        """Whether a worker is there, and not only asked for."""
        return self.worker is not None and not self.worker.is_waiting


@dataclass
class Launcher:
    """The workers of one search, on whatever engine.

    Args:
        engine: places them.
        logs: folder for their logs.
        screen: shows what they do.
        deadline_s: when to stop, by the monotonic clock; None for no time limit.
        beside: is called again and again while they work.
        names_logs: whether the logs are where the person is.
    """

    engine: Engine
    logs: Path
    screen: WorkersScreen
    deadline_s: float | None = None
    beside: Callable[[], None] = lambda: None
    names_logs: bool = True
    _places: dict[str, _Place] = field(default_factory=dict)
    _indices: dict[str, int] = field(default_factory=dict)
    _has_ended: bool = False
    _has_none: bool = False

    def run(self) -> bool:
        """Has workers at work until nothing is left to do.

        Returns:
            False if the time was up before.

        Raises:
            UnfitMachineError: no machine can work on the study, or workers die again and again.
            SearchFailedError: too many trials failed, or the engine is lost.
            KeyboardInterrupt: somebody wants to stop; no worker is left.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            while not self._is_over():
                if self.deadline_s is not None and time.monotonic() > self.deadline_s:
                    return False
                self._step()
        finally:
            self._stop_all()
        return True

    def _is_over(self) -> bool:
        """Whether some worker found nothing left to do, and no other one is at work."""
        return self._has_ended and not any(place.is_at_work for place in self._places.values())

    def _step(self) -> None:
        self.beside()
        self._follow_engine()
        now_s = time.monotonic()
        for place in self._places.values():
            if place.worker is None and not self._has_ended and now_s >= place.again_s:
                place.worker = self.engine.place(place.post, place.log)
                place.began_s, place.has_left = now_s, False
        workers = [place.worker for place in self._places.values() if place.worker is not None]
        self.engine.wait(workers, _TICK_S)
        for place in self._places.values():
            self._hear(place)
        for place in list(self._places.values()):
            if place.worker is not None and (how := place.worker.end_text()) is not None:
                self._bury(place, how)
        self._check_fit()

    def _follow_engine(self) -> None:
        """Takes new posts on, and lets go of those that are lost."""
        posts = {post.key: post for post in self.engine.posts()}
        for key, post in posts.items():
            if key not in self._places:
                # A post that comes back has its old number and log.
                index = self._indices.setdefault(key, len(self._indices) + 1)
                self._places[key] = _Place(index, post, self.logs / f"worker-{index}.log")
            self._places[key].post = post  # a job's host is known when it has begun
        for key in self._places.keys() - posts.keys():
            place = self._places.pop(key)
            self._hear(place)
            self._let_go(place)
            self.screen.note(f"{place.name} is lost with its machine; others take its trial over")
        if not posts and not self._has_none:
            self.screen.note("there is no place for a worker now; waiting for one")
        self._has_none = not posts

    def _hear(self, place: _Place) -> None:
        """Passes on what a worker has told."""
        for told in place.worker.hear() if place.worker is not None else ():
            self._take(place, told)

    def _take(self, place: _Place, told: Told) -> None:
        name = place.name + told.speaker
        if told.name == ENDED:
            place.has_ended = self._has_ended = True
        elif told.name == LEFT:
            place.has_left = True
        elif told.name == FAILED:
            reason, is_everywhere = told.arguments
            if is_everywhere:
                place.failure = reason
            else:
                place.unfit = reason
        elif told.name == LOG:
            with place.log.open("a", encoding="utf-8") as log:
                log.write(told.arguments[0])
        elif told.name == GONE:
            self.screen.worker_gone(name)
        else:
            if told.name == "trial_started":
                place.unfit = None
            place.speakers.add(name)
            self.screen.tell(name, told.name, *told.arguments)

    def _bury(self, place: _Place, how: str) -> None:
        """A worker is over: it has ended, cannot go on, or is replaced."""
        self._hear(place)
        self._let_go(place)
        if place.failure is not None:
            raise SearchFailedError(place.failure)
        if place.has_ended:
            return
        if place.unfit is not None:
            self._rest(place, place.unfit)
            return
        if place.has_left:
            place.deaths, place.again_s = 0, time.monotonic()
            return
        lived_s = time.monotonic() - place.began_s
        place.deaths = place.deaths + 1 if lived_s < SOON_S else 1
        if place.deaths >= MOST_DEATHS:
            often = f"died {place.deaths} times one after the other, at last {how}"
            self._rest(place, f"{place.name} {often}{self._log_text(place, '; see ')}")
            return
        pause_s = _FIRST_PAUSE_S * 2 ** (place.deaths - 1)
        place.again_s = time.monotonic() + pause_s
        self.screen.note(
            f"{place.name} {how}; another one begins in {pause_s:.0f} s"
            + self._log_text(place, " (log: ", ")")
        )

    def _rest(self, place: _Place, reason: str) -> None:
        """No worker can work on this post as it is.

        Raises:
            UnfitMachineError: nor on any other one.
        """
        if self.engine.one_machine:
            raise UnfitMachineError(reason)
        others = [each for each in self._places.values() if each is not place]
        is_known = any(
            each.unfit == reason and each.post.host == place.post.host for each in others
        )
        place.unfit, place.deaths = reason, 0
        place.again_s = time.monotonic() + UNFIT_PAUSE_S
        if not is_known:
            self.screen.note(
                f"{place.post.host or place.name} cannot work on the study: {reason}; "
                f"it is tried again every {UNFIT_PAUSE_S:.0f} s"
            )

    def _check_fit(self) -> None:
        """Raises UnfitMachineError if no machine can work on the study as they are."""
        places = self._places.values()
        if self._has_ended or not places:
            return
        if any(place.worker is not None or place.unfit is None for place in places):
            return
        reasons = dict.fromkeys(
            f"  {place.post.host or place.name}: {place.unfit}" for place in places
        )
        raise UnfitMachineError("no machine can work on the study:\n" + "\n".join(reasons))

    def _let_go(self, place: _Place) -> None:
        worker, place.worker = place.worker, None
        if worker is not None:
            worker.close()
        for speaker in [place.name, *place.speakers]:
            self.screen.worker_gone(speaker)
        place.speakers.clear()

    def _stop_all(self) -> None:
        """Tells every worker to leave, and makes sure that it does."""
        running = [place.worker for place in self._places.values() if place.worker is not None]
        for worker in running:
            worker.leave()
        deadline_s = time.monotonic() + self.engine.leave_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            living = [worker for worker in running if worker.end_text() is None]
            if not living:
                break
            self.engine.wait(living, min(left_s, _TICK_S))
            for place in self._places.values():
                self._hear_last(place)
        for worker in running:
            if worker.end_text() is None:
                worker.kill()
        for place in self._places.values():
            self._hear_last(place)
            if place.worker is not None:
                place.worker.close()

    def _hear_last(self, place: _Place) -> None:
        """Takes what belongs to the log of a worker that leaves; the screen shows no more."""
        for told in place.worker.hear() if place.worker is not None else ():
            if told.name == LOG:
                self._take(place, told)

    def _log_text(self, place: _Place, before: str, after: str = "") -> str:
        return f"{before}{place.log}{after}" if self.names_logs else ""


def log_folder(home: Path, study: str) -> Path:
    """Returns where the workers of a study write their logs.

    Args:
        home: the state folder.
        study: name of the study, in which any character may stand.
    """
    return home / "logs" / quote(study, safe=" ")
