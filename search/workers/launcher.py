"""Launcher: runs a job on each slot, replaces those that end, and shows what they do."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from optuna.trial import TrialState

from canopy_search.search.errors import SearchFailedError, UnfitMachineError
from canopy_search.search.events import (
    Ending,
    EpochDone,
    Event,
    Note,
    TrialEnded,
    TrialStarted,
    WorkerEnded,
)
from canopy_search.search.workers.backend import Backend, Job, WorkerSlot
from canopy_search.search.workers.database_watcher import DatabaseWatcher
from canopy_search.search.workers.logs import last_line

MOST_DEATHS = 5
"""After this many deaths in a row, without an epoch in between, a slot is parked."""
PARKED_S = 60.0
"""Seconds until a parked slot is tried again, since the user may have fixed its machine."""
WATCH_EVERY_S = 2.0
"""Seconds between two looks at the database."""
ROUNDS_WITHOUT_EPOCH = 3
"""A slot is parked if its jobs leave this often before one has finished an epoch."""
_FIRST_PAUSE_S = 1.0
_TICK_S = 0.5


class WorkersScreen(Protocol):
    """Shows the events of several workers."""

    def show(self, worker: str, event: Event) -> None:
        """Shows an event of a worker; its name is empty if it does not matter."""


@dataclass
class _SlotState:
    """A slot and its current job.

    Attributes:
        index: number of the slot, from 1.
        slot: the slot.
        log: log file of all jobs of this slot.
        job: current job; None if there is none.
        trial: number of the trial that its job runs, as far as is known.
        deaths: of its jobs since the last epoch: the trials that they ran.
        left: jobs that left since the last epoch.
        retry_at_s: when the next job is submitted, by the monotonic clock.
        parked: why it is parked; None if it is not.
    """

    index: int
    slot: WorkerSlot
    log: Path
    job: Job | None = None
    trial: int | None = None
    deaths: list[int | None] = field(default_factory=list)
    left: int = 0
    retry_at_s: float = 0.0
    parked: str | None = None

    @property
    def name(self) -> str:
        """Name of the worker."""
        return f"worker {self.index}" + (f" on {self.slot.host}" if self.slot.host else "")

    @property
    def names(self) -> list[str]:
        """Names of all workers of its job."""
        others = range(2, len(self.job.worker_ids) + 1 if self.job is not None else 2)
        return [self.name, *(f"{self.name}.{number}" for number in others)]


@dataclass
class Launcher:
    """Runs the workers of one search on any backend.

    Args:
        backend: runs the jobs.
        logs: folder for the logs of workers on this machine.
        screen: shows the events.
        deadline_s: when to stop, by the monotonic clock; None for no time limit.
        on_tick: called repeatedly while they work.
        watcher: reads the events of workers on other machines; None if the backend returns them.
    """

    backend: Backend
    logs: Path
    screen: WorkersScreen
    deadline_s: float | None = None
    on_tick: Callable[[], None] = lambda: None
    watcher: DatabaseWatcher | None = None
    _slot_states: dict[str, _SlotState] = field(default_factory=dict)
    _indices: dict[str, int] = field(default_factory=dict)
    _has_ended: bool = False
    _has_no_slot: bool = False
    _watched_s: float = float("-inf")

    def run(self) -> bool:
        """Runs workers until nothing is left to do.

        Returns:
            False if the deadline came first.

        Raises:
            UnfitMachineError: no slot is left on which workers can work on the study.
            SearchFailedError: too many trials failed, or the backend is lost.
            KeyboardInterrupt: the user stopped the search; no worker is left.
        """
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
        states = self._slot_states.values()
        return self._has_ended and all(not state.job or state.job.is_waiting for state in states)

    def _step(self) -> None:
        self.on_tick()
        self._follow_backend()
        now_s = time.monotonic()
        for state in self._slot_states.values():
            if state.job is None and not self._has_ended and now_s >= state.retry_at_s:
                state.job, state.trial = self.backend.submit(state.slot, state.log), None
        ended: list[tuple[_SlotState, WorkerEnded]] = []
        for job, event in self.backend.events(_TICK_S):
            states = [state for state in self._slot_states.values() if state.job is job]
            for state in states:  # none if the slot was lost meanwhile
                if isinstance(event, WorkerEnded):
                    ended.append((state, event))
                else:
                    self._show(state, state.name, event)
        self._watch(at_once=bool(ended))  # a worker writes to the database before it ends
        for state, event in ended:
            self._on_end(state, event)
        self._check_parked()

    def _follow_backend(self) -> None:
        """Adds new slots and drops lost ones."""
        slots = {slot.key: slot for slot in self.backend.slots()}
        for key, slot in slots.items():
            if key not in self._slot_states:
                # A slot that returns keeps its number and log.
                index = self._indices.setdefault(key, len(self._indices) + 1)
                self._slot_states[key] = _SlotState(index, slot, self.logs / f"worker-{index}.log")
            state = self._slot_states[key]
            if state.slot != slot:  # a job's host is known once it has started
                self._drop_names(state, WorkerEnded(Ending.DIED))
                state.slot = slot
        for key in self._slot_states.keys() - slots.keys():
            state = self._slot_states.pop(key)
            self._release(state, WorkerEnded(Ending.DIED))
            self._note(
                f"{state.name} is lost with its machine; another worker takes over its trial"
            )
        if not slots and not self._has_no_slot:
            self._note("no slot for a worker is available now; waiting for one")
        self._has_no_slot = not slots

    def _watch(self, *, at_once: bool) -> None:
        """Shows what workers on other machines have written to the database."""
        now_s = time.monotonic()
        if self.watcher is None or not (at_once or now_s - self._watched_s >= WATCH_EVERY_S):
            return
        self._watched_s = now_s
        workers: dict[int | None, tuple[_SlotState | None, str]] = {
            worker_id: (state, name)
            for state in self._slot_states.values()
            if state.job is not None
            for worker_id, name in zip(state.job.worker_ids, state.names, strict=True)
        }
        for worker_id, event in self.watcher.poll():
            state, name = workers.get(worker_id, (None, ""))  # another search's, or unknown
            self._show(state, name, event)

    def _show(self, state: _SlotState | None, name: str, event: Event) -> None:
        match event:
            case TrialStarted() if state is not None:
                state.trial = event.number
            case TrialEnded(number=number, state=TrialState.FAIL):
                for each in self._slot_states.values():
                    # Of these deaths the trial was the reason, and it is not started again.
                    each.deaths = [trial for trial in each.deaths if trial != number]
            case EpochDone() | TrialEnded() if state is not None:
                state.deaths, state.left, state.parked = [], 0, None
            case EpochDone() | TrialEnded():
                for each in self._slot_states.values():
                    each.left = 0  # it may be this slot's epoch
        self.screen.show(name, event)

    def _on_end(self, state: _SlotState, ended: WorkerEnded) -> None:
        """Handles the end of a job: nothing is left, no worker can continue, or it is replaced."""
        self._release(state, ended)
        reason = ended.reason
        match ended.ending:
            case Ending.FAILED:
                raise SearchFailedError(reason)
            case Ending.DONE:
                self._has_ended = True
            case Ending.UNFIT:
                self._park(state, reason)
            case Ending.SICK:
                self._park(state, reason, for_s=math.inf)
            case Ending.LEFT:
                state.left, state.retry_at_s = state.left + 1, time.monotonic()
                if state.left >= ROUNDS_WITHOUT_EPOCH:
                    self._park(
                        state,
                        f"{state.left} jobs in a row left before they finished an epoch, the last "
                        f"one because {reason}: increase --hours",
                    )
            case Ending.DIED:
                self._on_death(state, reason)

    def _on_death(self, state: _SlotState, reason: str) -> None:
        if state.trial is not None:
            reason += f" while running trial {state.trial}"
        state.deaths.append(state.trial)
        deaths = len(state.deaths)
        if deaths >= MOST_DEATHS:
            if self.backend.one_machine:
                printed = last_line(state.log)
                reason += f"; its log, {state.log}, ends with: {printed}"
            self._park(state, f"its workers died {deaths} times in a row; the last one {reason}")
            return
        pause_s = _FIRST_PAUSE_S * 2 ** (deaths - 1)
        state.retry_at_s = time.monotonic() + pause_s
        log = f" (log: {state.log})" if self.backend.one_machine else ""
        self._note(f"{state.name} {reason}; a new one starts in {pause_s:.0f} s{log}")

    def _park(self, state: _SlotState, reason: str, for_s: float = PARKED_S) -> None:
        """Starts no job on a slot for a while; other slots continue."""
        state.retry_at_s = time.monotonic() + for_s
        if state.parked is not None:  # it was tried again, in vain
            return
        state.parked = reason
        others = [other for other in self._slot_states.values() if other is not state]
        if any(other.parked == reason and other.slot.host == state.slot.host for other in others):
            return
        retry = f"; retrying every {for_s:.0f} s" if for_s < math.inf else ""
        self._note(f"{state.name} is parked: {reason}{retry}")

    def _check_parked(self) -> None:
        """Raises UnfitMachineError if every slot is parked."""
        states = self._slot_states.values()
        if self._has_ended or not states:
            return
        if any(state.job is not None or state.parked is None for state in states):
            return
        reasons = dict.fromkeys(str(state.parked) for state in states)
        if self.backend.one_machine and len(reasons) == 1:
            raise UnfitMachineError(*reasons)
        lines = dict.fromkeys(
            f"  {state.slot.host or state.name}: {state.parked}" for state in states
        )
        raise UnfitMachineError("no machine can work on the study:\n" + "\n".join(lines))

    def _release(self, state: _SlotState, ended: WorkerEnded) -> None:
        self._drop_names(state, ended)
        state.job = None

    def _drop_names(self, state: _SlotState, ended: WorkerEnded) -> None:
        for name in state.names:
            self.screen.show(name, ended)

    def _stop_all(self) -> None:
        """Asks all jobs to leave; kills those that do not, or at once after another Ctrl-C."""
        running = [state.job for state in self._slot_states.values() if state.job is not None]
        for job in running:
            job.cancel()
        deadline_s = time.monotonic() + self.backend.leave_s
        with suppress(KeyboardInterrupt):
            while running and (left_s := deadline_s - time.monotonic()) > 0:
                for job, event in self.backend.events(min(left_s, _TICK_S)):
                    if isinstance(event, WorkerEnded):
                        running = [other for other in running if other is not job]
        for job in running:
            job.kill()

    def _note(self, text: str) -> None:
        self.screen.show("", Note(text))
