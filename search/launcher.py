"""Starts the workers of this machine, watches and replaces them, and shows what they do."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from urllib.parse import quote

from search.errors import SearchFailedError
from search.plan import SearchPlan
from search.screen import SearchScreen
from search.slots import Slot
from search.worker_process import ENDED, FAILED, INTERRUPTED, WorkerJob, run_worker
from search.worker_template import CONTEXT

LEAVE_S = 4.5
"""Workers that are told to leave have as long as this, and are killed then."""
MOST_DEATHS = 5
"""A worker that dies so often, one time after the other and each time soon, is given up."""
SOON_S = 60.0
_FIRST_PAUSE_S = 1.0
_TICK_S = 0.5


@dataclass
class _Place:
    """A slot and the worker that is in it.

    Attributes:
        index: counts from 1.
        slot: the device.
        log: what all workers in it write to.
        process: the worker, unless there is none now.
        told: what it tells.
        began_s: when it was started.
        deaths: how many died here one after the other, each soon.
        again_s: when the next one is started.
        has_ended: whether nothing is left to do here.
        failure: why the search cannot go on, if it said so.
    """

    index: int
    slot: Slot
    log: Path
    process: ForkServerProcess | None = None
    told: "Connection[Any, Any] | None" = None
    began_s: float = 0.0
    deaths: int = 0
    again_s: float = 0.0
    has_ended: bool = False
    failure: str | None = None

    @property
    def name(self) -> str:
        """Says which worker it is."""
        return f"worker {self.index}"


@dataclass
class Launcher:
    """The workers of one search on this machine.

    Args:
        plan: of the search.
        url: of the database; None for the embedded one.
        slots: one for each worker.
        screen: shows what they do.
        deadline_s: when to stop, by the monotonic clock; None for no time limit.
        beside: is called again and again while they work.
    """

    plan: SearchPlan
    url: str | None
    slots: Sequence[Slot]
    screen: SearchScreen
    deadline_s: float | None = None
    beside: Callable[[], None] = lambda: None
    _places: list[_Place] = field(default_factory=list)

    def run(self) -> bool:
        """Runs workers until nothing is left to do.

        Returns:
            False if the time was up before.

        Raises:
            SearchFailedError: too many trials failed, or workers die again and again.
            KeyboardInterrupt: somebody wants to stop; no worker is left.
        """
        folder = log_folder(self.plan.home, self.plan.study)
        folder.mkdir(parents=True, exist_ok=True)
        self._places = [
            _Place(at, slot, folder / f"worker-{at}.log")
            for at, slot in enumerate(self.slots, start=1)
        ]
        try:
            while any(not place.has_ended for place in self._places):
                if self.deadline_s is not None and time.monotonic() > self.deadline_s:
                    return False
                self._step()
        finally:
            self._stop_all()
        return True

    def _step(self) -> None:
        self.beside()
        now_s = time.monotonic()
        for place in self._places:
            if place.process is None and not place.has_ended and now_s >= place.again_s:
                self._start(place)
        connections = {place.told: place for place in self._places if place.told is not None}
        sentinels = {
            place.process.sentinel: place for place in self._places if place.process is not None
        }
        ready = wait([*connections, *sentinels], timeout=_TICK_S)
        for source in ready:
            if source in connections:
                self._hear(connections[source])
        for source in ready:
            if source in sentinels:
                self._bury(sentinels[source])

    def _start(self, place: _Place) -> None:
        ours, theirs = CONTEXT.Pipe(duplex=False)
        environment = {**os.environ, **place.slot.environment}
        job = WorkerJob(replace(self.plan, slot=place.slot.name), self.url, environment, place.log)
        process = CONTEXT.Process(
            target=run_worker, args=(job, theirs), name=f"canopy {place.name}"
        )
        process.start()
        theirs.close()
        place.process, place.told, place.began_s = process, ours, time.monotonic()

    def _hear(self, place: _Place) -> None:
        """Passes on what a worker has told."""
        connection = place.told
        try:
            while connection is not None and connection.poll():
                name, arguments = connection.recv()
                if name == ENDED:
                    place.has_ended = True
                elif name == FAILED:
                    place.failure = arguments[0]
                else:
                    self.screen.tell(place.name, name, *arguments)
        except (EOFError, OSError):
            if connection is not None:
                connection.close()
            place.told = None

    def _bury(self, place: _Place) -> None:
        """A worker's process is over: it has ended, cannot go on, or is replaced."""
        self._hear(place)
        process, place.process = place.process, None
        if process is None:
            return
        process.join()
        self.screen.worker_gone(place.name)
        if place.told is not None:
            place.told.close()
            place.told = None
        if place.failure is not None:
            raise SearchFailedError(place.failure)
        if place.has_ended:
            return
        lived_s = time.monotonic() - place.began_s
        place.deaths = place.deaths + 1 if lived_s < SOON_S else 1
        how = _end_text(process.exitcode)
        if place.deaths >= MOST_DEATHS:
            raise SearchFailedError(
                f"{place.name} died {place.deaths} times one after the other, at last {how}; "
                f"see {place.log}"
            )
        pause_s = _FIRST_PAUSE_S * 2 ** (place.deaths - 1)
        place.again_s = time.monotonic() + pause_s
        self.screen.note(
            f"{place.name} {how}; another one begins in {pause_s:.0f} s (log: {place.log})"
        )

    def _stop_all(self) -> None:
        """Tells every worker to leave, and makes sure that it does."""
        running = [place.process for place in self._places if place.process is not None]
        for process in running:
            process.terminate()
        deadline_s = time.monotonic() + LEAVE_S
        for process in running:
            process.join(max(0.0, deadline_s - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        for place in self._places:
            if place.told is not None:
                with suppress(OSError):
                    place.told.close()


def log_folder(home: Path, study: str) -> Path:
    """Returns where the workers of a study write their logs.

    Args:
        home: the state folder.
        study: name of the study, in which any character may stand.
    """
    return home / "logs" / quote(study, safe=" ")


def _end_text(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    if exit_code == INTERRUPTED:
        return "was told to leave"
    return f"ended with exit status {exit_code}"
