"""Workers as processes of this machine."""

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
        process: that was started.
        connection: to hear it by.
    """

    process: ForkServerProcess
    connection: "Connection[Any, Any] | None"
    is_waiting: bool = False

    def poll(self) -> list[WorkerEvent]:
        event = []
        try:
            while self.connection is not None and self.connection.poll():
                name, arguments = self.connection.recv()
                event.append(WorkerEvent(name, arguments))
        except (EOFError, OSError):
            self._hang_up()
        return event

    def end_text(self) -> str | None:
        return None if self.process.is_alive() else _end_text(self.process.exitcode)

    def leave(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.process.join()
        self._hang_up()

    def _hang_up(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(OSError):
                connection.close()


class LocalBackend:
    """The engine of this machine: one process for each slot.

    Args:
        plan: of the search.
        url: of the database; None for the embedded one.
        slots: one for each worker.
        begins: whether a worker begins the study if nobody has.
    """

    leave_s = LEAVE_S
    one_machine = True

    def __init__(
        self,
        plan: SearchPlan,
        url: str | None,
        slots: Sequence[DeviceSlot],
        *,
        begins: bool = False,
    ) -> None:
        self._plan = plan
        self._url = url
        self._begins = begins
        self._slots = {f"{at}": slot for at, slot in enumerate(slots, start=1)}

    def slots(self) -> list[WorkerSlot]:
        """Returns the slots, which are always the same."""
        return [WorkerSlot(key, slot.name) for key, slot in self._slots.items()]

    def place(self, post: WorkerSlot, log: Path) -> PlacedWorker:
        """Starts a process, which writes its log itself."""
        slot = self._slots[post.key]
        ours, theirs = CONTEXT.Pipe(duplex=False)
        environment = {**os.environ, **slot.environment}
        plan = replace(self._plan, slot=slot.name)
        job = WorkerJob(plan, self._url, environment, log, self._begins)
        process = CONTEXT.Process(
            target=run_worker, args=(job, theirs), name=f"canopy worker {post.key}"
        )
        process.start()
        theirs.close()
        return _Process(process, ours)

    def wait(self, workers: Sequence[PlacedWorker], timeout_s: float) -> None:
        """Waits for the processes' ends and for what they tell."""
        processes = [worker for worker in workers if isinstance(worker, _Process)]
        sources: list[Connection[Any, Any] | int] = [each.process.sentinel for each in processes]
        sources += [each.connection for each in processes if each.connection is not None]
        wait(sources, timeout=timeout_s)

    def close(self) -> None:
        """Nothing is left: the processes are over."""


def _end_text(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    if exit_code == INTERRUPTED:
        return "was told to leave"
    return f"ended with exit status {exit_code}"
