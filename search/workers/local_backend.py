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

from canopy_search.search.study.plan import SearchPlan
from canopy_search.search.workers.backend import PlacedWorker, WorkerEvent, WorkerSlot
from canopy_search.search.workers.device_slots import DeviceSlot
from canopy_search.search.workers.forkserver import CONTEXT
from canopy_search.search.workers.process import INTERRUPTED, WorkerJob, run_worker

LEAVE_S = 4.5


@dataclass
class _Process:
    """A worker in a process of its own.

    Args:
        process: the process.
        connection: pipe that receives its events; None when it is closed.
    """

    process: ForkServerProcess
    connection: "Connection[Any, Any] | None"
    is_waiting: bool = False

    def poll(self) -> list[WorkerEvent]:
        events = []
        try:
            while self.connection is not None and self.connection.poll():
                name, arguments = self.connection.recv()
                events.append(WorkerEvent(name, arguments))
        except (EOFError, OSError):
            self._disconnect()
        return events

    def end_text(self) -> str | None:
        return None if self.process.is_alive() else _end_text(self.process.exitcode)

    def leave(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.process.join()
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(OSError):
                connection.close()


class LocalBackend:
    """The backend of this machine: one process per slot.

    Args:
        plan: plan of the search.
        url: URL of the database; None for the embedded one.
        slots: one per worker.
        creates_study: whether a worker creates the study if it does not exist.
    """

    leave_s = LEAVE_S
    one_machine = True

    def __init__(
        self,
        plan: SearchPlan,
        url: str | None,
        slots: Sequence[DeviceSlot],
        *,
        creates_study: bool = False,
    ) -> None:
        self._plan = plan
        self._url = url
        self._creates_study = creates_study
        self._slots = {f"{index}": slot for index, slot in enumerate(slots, start=1)}

    def slots(self) -> list[WorkerSlot]:
        """Returns the slots, which are always the same."""
        return [WorkerSlot(key, slot.name) for key, slot in self._slots.items()]

    def place(self, slot: WorkerSlot, log: Path) -> PlacedWorker:
        """Starts a process, which writes its log itself."""
        device_slot = self._slots[slot.key]
        receiver, sender = CONTEXT.Pipe(duplex=False)
        environment = {**os.environ, **device_slot.environment}
        plan = replace(self._plan, slot=device_slot.name)
        job = WorkerJob(plan, self._url, environment, log, self._creates_study)
        process = CONTEXT.Process(
            target=run_worker, args=(job, sender), name=f"canopy worker {slot.key}"
        )
        process.start()
        sender.close()
        return _Process(process, receiver)

    def wait(self, workers: Sequence[PlacedWorker], timeout_s: float) -> None:
        """Waits for events or the end of a process."""
        processes = [worker for worker in workers if isinstance(worker, _Process)]
        sources: list[Connection[Any, Any] | int] = [
            worker.process.sentinel for worker in processes
        ]
        sources += [worker.connection for worker in processes if worker.connection is not None]
        wait(sources, timeout=timeout_s)

    def close(self) -> None:
        """Does nothing: the processes have ended."""


def _end_text(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    if exit_code == INTERRUPTED:
        return "was asked to leave"
    return f"ended with exit status {exit_code}"
