"""Workers as processes on this machine."""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from canopy_search.search.events import Ending, Event, WorkerEnded
from canopy_search.search.study.plan import SearchPlan
from canopy_search.search.workers.backend import Job, JobEvent, WorkerSlot
from canopy_search.search.workers.command import INTERRUPTED
from canopy_search.search.workers.device_slots import DeviceSlot
from canopy_search.search.workers.forkserver import CONTEXT, warm_up
from canopy_search.search.workers.process import WorkerJob, run_worker

LEAVE_S = 4.5


@dataclass
class _Process:
    """A worker in a process of its own.

    Attributes:
        process: the process.
        connection: pipe that receives its events.
        ended: its last event, if it sent one.
    """

    process: ForkServerProcess
    connection: "Connection[Any, Any]"
    ended: WorkerEnded | None = None
    worker_ids: Sequence[int] = ()
    is_waiting: bool = False

    def cancel(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def receive(self) -> list[Event]:
        """Returns the events in the pipe; of an ended process, all that are left."""
        is_over = not self.process.is_alive()
        events: list[Event] = []
        with suppress(EOFError, OSError):
            while self.connection.poll():
                event: Event = self.connection.recv()
                if isinstance(event, WorkerEnded):
                    self.ended = event
                else:
                    events.append(event)
        if is_over:
            self.process.join()
            self.connection.close()
            died = WorkerEnded(Ending.DIED, _death_text(self.process.exitcode))
            events.append(self.ended or died)
        return events


class LocalBackend:
    """The backend of this machine: one process per slot.

    Args:
        plan: plan of the search.
        slots: one per worker.
    """

    leave_s = LEAVE_S
    one_machine = True

    def __init__(self, plan: SearchPlan, slots: Sequence[DeviceSlot]) -> None:
        warm_up()  # unless the command has done so
        self._plan = plan
        self._slots = {f"{index}": slot for index, slot in enumerate(slots, start=1)}
        self._running: list[_Process] = []

    def slots(self) -> list[WorkerSlot]:
        """Returns the slots, which are always the same."""
        return [WorkerSlot(key, slot.name) for key, slot in self._slots.items()]

    def submit(self, slot: WorkerSlot, log: Path) -> Job:
        """Starts a process, which writes its log itself."""
        device_slot = self._slots[slot.key]
        receiver, sender = CONTEXT.Pipe(duplex=False)
        environment = {**os.environ, **device_slot.environment}
        sharing = sum(other.name == device_slot.name for other in self._slots.values())
        plan = replace(self._plan, slot=device_slot.place(int(slot.key)), workers_on_device=sharing)
        job = WorkerJob(plan, environment, log)
        process = CONTEXT.Process(
            target=run_worker, args=(job, sender), name=f"canopy worker {slot.key}"
        )
        process.start()
        sender.close()
        self._running.append(_Process(process, receiver))
        return self._running[-1]

    def events(self, timeout_s: float) -> list[JobEvent]:
        """Waits for events or the end of a process."""
        sources: list[Connection[Any, Any] | int] = []
        for worker in self._running:
            sources += [worker.process.sentinel, worker.connection]
        wait(sources, timeout=timeout_s)
        found = [JobEvent(worker, event) for worker in self._running for event in worker.receive()]
        self._running = [worker for worker in self._running if not worker.connection.closed]
        return found

    def close(self) -> None:
        """Does nothing: the processes have ended."""


def _death_text(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    if exit_code == INTERRUPTED:
        return "was asked to leave"
    return f"ended with exit status {exit_code}"
