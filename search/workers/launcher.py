"""Launcher: places workers on slots, monitors and replaces them, and shows their events."""

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
"""After this many deaths in a row, each within `SOON_S`, a slot is marked unfit."""
SOON_S = 60.0
UNFIT_PAUSE_S = 60.0
"""Seconds until an unfit machine is tried again, since the user may have fixed it."""
_FIRST_PAUSE_S = 1.0
_TICK_S = 0.5


class WorkersScreen(Protocol):
    """Shows the events of several workers."""

    def emit(self, worker: str, event: str, *arguments: Any) -> None:
        """Shows an event of one of them; `event` is the name of a method of `SearchWatcher`."""

    def worker_gone(self, worker: str) -> None:
        """A worker ended."""

    def note(self, text: str) -> None:
        """Shows a message for the user."""


@dataclass
class _SlotState:
    """A slot and its current worker.

    Attributes:
        index: number of the slot, from 1.
        slot: the slot.
        log: log file of all workers of this slot.
        worker: current worker; None if there is none.
        worker_ids: names of its workers that have sent events.
        started_s: when the worker was placed, by the monotonic clock.
        deaths: deaths in a row, each within `SOON_S`.
        retry_at_s: when the next worker is placed, by the monotonic clock.
        has_ended: whether the worker found nothing left to do.
        has_left: whether the worker left by itself.
        failure: why no worker can continue, if it reported that.
        unfit: why no worker can run on this slot.
    """

    index: int
    slot: WorkerSlot
    log: Path
    worker: PlacedWorker | None = None
    worker_ids: set[str] = field(default_factory=set)
    started_s: float = 0.0
    deaths: int = 0
    retry_at_s: float = 0.0
    has_ended: bool = False
    has_left: bool = False
    failure: str | None = None
    unfit: str | None = None

    @property
    def name(self) -> str:
        """Name of the worker."""
        return f"worker {self.index}" + (f" on {self.slot.host}" if self.slot.host else "")

    @property
    def is_at_work(self) -> bool:
        """Whether a worker runs, and is not only queued."""
        return self.worker is not None and not self.worker.is_waiting


@dataclass
class Launcher:
    """Runs the workers of one search on any backend.

    Args:
        backend: places the workers.
        logs: folder for their logs.
        screen: shows their events.
        deadline_s: when to stop, by the monotonic clock; None for no time limit.
        on_tick: called repeatedly while they work.
        names_logs: whether messages name the log files, which must be on the user's machine.
    """

    backend: Backend
    logs: Path
    screen: WorkersScreen
    deadline_s: float | None = None
    on_tick: Callable[[], None] = lambda: None
    names_logs: bool = True
    _slot_states: dict[str, _SlotState] = field(default_factory=dict)
    _indices: dict[str, int] = field(default_factory=dict)
    _has_ended: bool = False
    _has_no_slot: bool = False

    def run(self) -> bool:
        """Runs workers until nothing is left to do.

        Returns:
            False if the deadline came first.

        Raises:
            UnfitMachineError: no machine can work on the study, or workers die repeatedly.
            SearchFailedError: too many trials failed, or the backend is lost.
            KeyboardInterrupt: the user stopped the search; no worker is left.
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
        """Whether a worker found nothing left to do, and no other worker runs."""
        return self._has_ended and not any(state.is_at_work for state in self._slot_states.values())

    def _step(self) -> None:
        self.on_tick()
        self._follow_backend()
        now_s = time.monotonic()
        for state in self._slot_states.values():
            if state.worker is None and not self._has_ended and now_s >= state.retry_at_s:
                state.worker = self.backend.place(state.slot, state.log)
                state.started_s, state.has_left = now_s, False
        workers = [state.worker for state in self._slot_states.values() if state.worker is not None]
        self.backend.wait(workers, _TICK_S)
        for state in self._slot_states.values():
            self._poll(state)
        for state in list(self._slot_states.values()):
            if state.worker is not None and (end_text := state.worker.end_text()) is not None:
                self._on_exit(state, end_text)
        self._check_fit()

    def _follow_backend(self) -> None:
        """Adds new slots and drops lost ones."""
        slots = {slot.key: slot for slot in self.backend.slots()}
        for key, slot in slots.items():
            if key not in self._slot_states:
                # A slot that returns keeps its number and log.
                index = self._indices.setdefault(key, len(self._indices) + 1)
                self._slot_states[key] = _SlotState(index, slot, self.logs / f"worker-{index}.log")
            self._slot_states[key].slot = slot  # a job's host is known once it has started
        for key in self._slot_states.keys() - slots.keys():
            state = self._slot_states.pop(key)
            self._poll(state)
            self._release(state)
            self.screen.note(
                f"{state.name} is lost with its machine; another worker takes over its trial"
            )
        if not slots and not self._has_no_slot:
            self.screen.note("no slot for a worker is available now; waiting for one")
        self._has_no_slot = not slots

    def _poll(self, state: _SlotState) -> None:
        """Handles the new events of a worker."""
        for event in state.worker.poll() if state.worker is not None else ():
            self._handle(state, event)

    def _handle(self, state: _SlotState, event: WorkerEvent) -> None:
        name = state.name + event.worker_id
        if event.name == ENDED:
            state.has_ended = self._has_ended = True
        elif event.name == LEFT:
            state.has_left = True
        elif event.name == FAILED:
            reason, is_everywhere = event.arguments
            if is_everywhere:
                state.failure = reason
            else:
                state.unfit = reason
        elif event.name == LOG:
            with state.log.open("a", encoding="utf-8") as log:
                log.write(event.arguments[0])
        elif event.name == GONE:
            self.screen.worker_gone(name)
        else:
            if event.name == "trial_started":
                state.unfit = None
            state.worker_ids.add(name)
            self.screen.emit(name, event.name, *event.arguments)

    def _on_exit(self, state: _SlotState, end_text: str) -> None:
        """Handles the end of a worker: it is done, it cannot continue, or it is replaced."""
        self._poll(state)
        self._release(state)
        if state.failure is not None:
            raise SearchFailedError(state.failure)
        if state.has_ended:
            return
        if state.unfit is not None:
            self._back_off(state, state.unfit)
            return
        if state.has_left:
            state.deaths, state.retry_at_s = 0, time.monotonic()
            return
        lived_s = time.monotonic() - state.started_s
        state.deaths = state.deaths + 1 if lived_s < SOON_S else 1
        if state.deaths >= MOST_DEATHS:
            died = f"died {state.deaths} times in a row; the last one {end_text}"
            self._back_off(state, f"{state.name} {died}{self._log_text(state, '; see ')}")
            return
        pause_s = _FIRST_PAUSE_S * 2 ** (state.deaths - 1)
        state.retry_at_s = time.monotonic() + pause_s
        self.screen.note(
            f"{state.name} {end_text}; a new one starts in {pause_s:.0f} s"
            + self._log_text(state, " (log: ", ")")
        )

    def _back_off(self, state: _SlotState, reason: str) -> None:
        """Marks a slot as unfit for now.

        Raises:
            UnfitMachineError: no other slot can be fit, because all are on one machine.
        """
        if self.backend.one_machine:
            raise UnfitMachineError(reason)
        others = [other for other in self._slot_states.values() if other is not state]
        is_known = any(
            other.unfit == reason and other.slot.host == state.slot.host for other in others
        )
        state.unfit, state.deaths = reason, 0
        state.retry_at_s = time.monotonic() + UNFIT_PAUSE_S
        if not is_known:
            self.screen.note(
                f"{state.slot.host or state.name} cannot work on the study: {reason}; "
                f"retrying every {UNFIT_PAUSE_S:.0f} s"
            )

    def _check_fit(self) -> None:
        """Raises UnfitMachineError if no machine can work on the study."""
        states = self._slot_states.values()
        if self._has_ended or not states:
            return
        if any(state.worker is not None or state.unfit is None for state in states):
            return
        reasons = dict.fromkeys(
            f"  {state.slot.host or state.name}: {state.unfit}" for state in states
        )
        raise UnfitMachineError("no machine can work on the study:\n" + "\n".join(reasons))

    def _release(self, state: _SlotState) -> None:
        worker, state.worker = state.worker, None
        if worker is not None:
            worker.close()
        for worker_id in [state.name, *state.worker_ids]:
            self.screen.worker_gone(worker_id)
        state.worker_ids.clear()

    def _stop_all(self) -> None:
        """Asks all workers to leave, and kills those that do not."""
        running = [state.worker for state in self._slot_states.values() if state.worker is not None]
        for worker in running:
            worker.leave()
        deadline_s = time.monotonic() + self.backend.leave_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            living = [worker for worker in running if worker.end_text() is None]
            if not living:
                break
            self.backend.wait(living, min(left_s, _TICK_S))
            for state in self._slot_states.values():
                self._poll_last(state)
        for worker in running:
            if worker.end_text() is None:
                worker.kill()
        for state in self._slot_states.values():
            self._poll_last(state)
            if state.worker is not None:
                state.worker.close()

    def _poll_last(self, state: _SlotState) -> None:
        """Writes the last log text of a leaving worker; other events are no longer shown."""
        for event in state.worker.poll() if state.worker is not None else ():
            if event.name == LOG:
                self._handle(state, event)

    def _log_text(self, state: _SlotState, before: str, after: str = "") -> str:
        return f"{before}{state.log}{after}" if self.names_logs else ""
