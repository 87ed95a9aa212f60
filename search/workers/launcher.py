"""Has workers placed, watches and replaces them, and shows what they do."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from canopy_search.search.errors import SearchFailedError, UnfitMachineError
from canopy_search.search.workers.backend import (
    ENDED,
    FAILED,
    GONE,
    LEFT,
    LOG,
    Backend,
    PlacedWorker,
    WorkerEvent,
    WorkerSlot,
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

    def emit(self, worker: str, event: str, *arguments: Any) -> None:
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
        slot: where.
        log: what all workers on it write to.
        worker: unless there is none now.
        worker_ids: who of it has told something.
        began_s: when it was placed.
        deaths: how many died here one after the other, each soon.
        again_s: when the next one is placed.
        has_ended: whether nothing is left to do.
        has_left: whether it left by itself.
        failure: why no worker can go on, if it said so.
        unfit: why none can work on this post.
    """

    index: int
    slot: WorkerSlot
    log: Path
    worker: PlacedWorker | None = None
    worker_ids: set[str] = field(default_factory=set)
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
        return f"worker {self.index}" + (f" on {self.slot.host}" if self.slot.host else "")

    @property
    def is_at_work(self) -> bool:
        """Whether a worker is there, and not only asked for."""
        return self.worker is not None and not self.worker.is_waiting


@dataclass
class Launcher:
    """The workers of one search, on whatever engine.

    Args:
        backend: places them.
        logs: folder for their logs.
        screen: shows what they do.
        deadline_s: when to stop, by the monotonic clock; None for no time limit.
        on_tick: is called again and again while they work.
        names_logs: whether the logs are where the person is.
    """

    backend: Backend
    logs: Path
    screen: WorkersScreen
    deadline_s: float | None = None
    on_tick: Callable[[], None] = lambda: None
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
        self.on_tick()
        self._follow_backend()
        now_s = time.monotonic()
        for place in self._places.values():
            if place.worker is None and not self._has_ended and now_s >= place.again_s:
                place.worker = self.backend.place(place.slot, place.log)
                place.began_s, place.has_left = now_s, False
        workers = [place.worker for place in self._places.values() if place.worker is not None]
        self.backend.wait(workers, _TICK_S)
        for place in self._places.values():
            self._poll(place)
        for place in list(self._places.values()):
            if place.worker is not None and (how := place.worker.end_text()) is not None:
                self._on_exit(place, how)
        self._check_fit()

    def _follow_backend(self) -> None:
        """Takes new posts on, and lets go of those that are lost."""
        slots = {slot.key: slot for slot in self.backend.slots()}
        for key, slot in slots.items():
            if key not in self._places:
                # A post that comes back has its old number and log.
                index = self._indices.setdefault(key, len(self._indices) + 1)
                self._places[key] = _Place(index, slot, self.logs / f"worker-{index}.log")
            self._places[key].slot = slot  # a job's host is known when it has begun
        for key in self._places.keys() - slots.keys():
            place = self._places.pop(key)
            self._poll(place)
            self._let_go(place)
            self.screen.note(f"{place.name} is lost with its machine; others take its trial over")
        if not slots and not self._has_none:
            self.screen.note("there is no place for a worker now; waiting for one")
        self._has_none = not slots

    def _poll(self, place: _Place) -> None:
        """Passes on what a worker has told."""
        for event in place.worker.poll() if place.worker is not None else ():
            self._take(place, event)

    def _take(self, place: _Place, event: WorkerEvent) -> None:
        name = place.name + event.worker_id
        if event.name == ENDED:
            place.has_ended = self._has_ended = True
        elif event.name == LEFT:
            place.has_left = True
        elif event.name == FAILED:
            reason, is_everywhere = event.arguments
            if is_everywhere:
                place.failure = reason
            else:
                place.unfit = reason
        elif event.name == LOG:
            with place.log.open("a", encoding="utf-8") as log:
                log.write(event.arguments[0])
        elif event.name == GONE:
            self.screen.worker_gone(name)
        else:
            if event.name == "trial_started":
                place.unfit = None
            place.worker_ids.add(name)
            self.screen.emit(name, event.name, *event.arguments)

    def _on_exit(self, place: _Place, how: str) -> None:
        """A worker is over: it has ended, cannot go on, or is replaced."""
        self._poll(place)
        self._let_go(place)
        if place.failure is not None:
            raise SearchFailedError(place.failure)
        if place.has_ended:
            return
        if place.unfit is not None:
            self._back_off(place, place.unfit)
            return
        if place.has_left:
            place.deaths, place.again_s = 0, time.monotonic()
            return
        lived_s = time.monotonic() - place.began_s
        place.deaths = place.deaths + 1 if lived_s < SOON_S else 1
        if place.deaths >= MOST_DEATHS:
            often = f"died {place.deaths} times one after the other, at last {how}"
            self._back_off(place, f"{place.name} {often}{self._log_text(place, '; see ')}")
            return
        pause_s = _FIRST_PAUSE_S * 2 ** (place.deaths - 1)
        place.again_s = time.monotonic() + pause_s
        self.screen.note(
            f"{place.name} {how}; another one begins in {pause_s:.0f} s"
            + self._log_text(place, " (log: ", ")")
        )

    def _back_off(self, place: _Place, reason: str) -> None:
        """No worker can work on this post as it is.

        Raises:
            UnfitMachineError: nor on any other one.
        """
        if self.backend.one_machine:
            raise UnfitMachineError(reason)
        others = [each for each in self._places.values() if each is not place]
        is_known = any(
            each.unfit == reason and each.slot.host == place.slot.host for each in others
        )
        place.unfit, place.deaths = reason, 0
        place.again_s = time.monotonic() + UNFIT_PAUSE_S
        if not is_known:
            self.screen.note(
                f"{place.slot.host or place.name} cannot work on the study: {reason}; "
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
            f"  {place.slot.host or place.name}: {place.unfit}" for place in places
        )
        raise UnfitMachineError("no machine can work on the study:\n" + "\n".join(reasons))

    def _let_go(self, place: _Place) -> None:
        worker, place.worker = place.worker, None
        if worker is not None:
            worker.close()
        for worker_id in [place.name, *place.worker_ids]:
            self.screen.worker_gone(worker_id)
        place.worker_ids.clear()

    def _stop_all(self) -> None:
        """Tells every worker to leave, and makes sure that it does."""
        running = [place.worker for place in self._places.values() if place.worker is not None]
        for worker in running:
            worker.leave()
        deadline_s = time.monotonic() + self.backend.leave_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            living = [worker for worker in running if worker.end_text() is None]
            if not living:
                break
            self.backend.wait(living, min(left_s, _TICK_S))
            for place in self._places.values():
                self._poll_last(place)
        for worker in running:
            if worker.end_text() is None:
                worker.kill()
        for place in self._places.values():
            self._poll_last(place)
            if place.worker is not None:
                place.worker.close()

    def _poll_last(self, place: _Place) -> None:
        """Takes what belongs to the log of a worker that leaves; the screen shows no more."""
        for event in place.worker.poll() if place.worker is not None else ():
            if event.name == LOG:
                self._take(place, event)

    def _log_text(self, place: _Place, before: str, after: str = "") -> str:
        return f"{before}{place.log}{after}" if self.names_logs else ""
