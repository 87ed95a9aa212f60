"""The driver process of Ray: runs workers on the nodes of a cluster, and monitors the nodes.

Ray needs a process of its own: it handles signals, prints to the terminal, and ends the process
when it loses its cluster. Its output, and that of the workers, goes to a log.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from canopy_search.filestore.messages import first_line
from canopy_search.search.events import Ending, WorkerEnded
from canopy_search.search.workers import command as command_module
from canopy_search.search.workers.command import CanopyWorker, WorkerCommand
from canopy_search.search.workers.logs import LogFile
from canopy_search.search.workers.ray.address import LOCAL, NO_TOKEN
from canopy_search.search.workers.ray.slots import Node, RaySlot, living_nodes
from canopy_search.search.workers.remote_search import worker_ended

NODES_EVERY_S = 1.0
RETRY_S = 1.0
"""Seconds until an unreachable worker is asked again."""
_TICK_S = 0.1
_CALLS = 8
"""Calls of one worker at a time; one whose answer was lost still occupies its thread."""

_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_COLOR_PREFIX": "0"}
_LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0 so that a new cluster listens only on this machine; otherwise on every network."""


@dataclass(frozen=True)
class RayJob:
    """Arguments of the driver process.

    Attributes:
        address: address of the cluster; `LOCAL` for a new one on this machine.
        log: file for Ray's output.
        environment: environment variables of the process.
    """

    address: str
    log: Path
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Submit:
    """To the driver: run a worker."""

    number: int
    slot: RaySlot
    command: WorkerCommand


@dataclass(frozen=True)
class Leave:
    """To the driver: ask a worker to leave."""

    number: int


@dataclass(frozen=True)
class Kill:
    """To the driver: kill a worker, or no longer wait for room for it."""

    number: int


@dataclass(frozen=True)
class Nodes:
    """From the driver, each second: the nodes that are alive."""

    nodes: list[Node]


@dataclass(frozen=True)
class Refused:
    """From the driver: the cluster cannot be used."""

    reason: str


@dataclass(frozen=True)
class Started:
    """From the driver: Ray has found room for a worker."""

    number: int


@dataclass(frozen=True)
class Ended:
    """From the driver: a worker has ended."""

    number: int
    event: WorkerEnded


def run_ray(job: RayJob, connection: "Connection[Any, Any]") -> None:
    """Main function of the process; it ends when the launcher closes the pipe."""
    os.setsid()  # only the launcher handles Ctrl-C in the terminal
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray interrupts its workers
    os.environ.clear()
    os.environ.update({**_ENVIRONMENT, **job.environment})
    if job.address == LOCAL:
        os.environ[_LOOPBACK_VARIABLE] = "0"
    LogFile(job.log, lambda text: print(text, file=sys.stderr)).replace_output()  # noqa: T201
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()} started", flush=True)  # noqa: T201
    import ray

    new_cluster: dict[str, Any] = {"include_dashboard": False} if job.address == LOCAL else {}
    try:
        ray.init(address=job.address, logging_level=logging.WARNING, **new_cluster)
    except Exception as error:  # noqa: BLE001 - Ray raises many types
        connection.send(Refused(_reason(error)))
        return
    try:
        _Driver(ray, connection).run()
    finally:
        ray.shutdown()


@dataclass
class _Actor:
    """A worker's actor.

    Attributes:
        handle: Ray's handle of the actor.
        pending: reference of the call that has not returned yet; None if there is none.
        has_started: whether it has responded.
        retry_at_s: when to ask it again after it was unreachable, by the monotonic clock.
    """

    handle: Any
    pending: Any
    has_started: bool = False
    retry_at_s: float = 0.0


class _Driver:
    """Runs the launcher's commands, and reports when workers start and end.

    Args:
        ray: the package, connected to the cluster.
        connection: pipe to the launcher.
    """

    def __init__(self, ray: Any, connection: "Connection[Any, Any]") -> None:
        self._ray = ray
        self._ray.cloudpickle.register_pickle_by_value(command_module)
        self._connection = connection
        self._actors: dict[int, _Actor] = {}

    def run(self) -> None:
        """Works until the launcher closes the pipe."""
        nodes_s = float("-inf")
        with suppress(EOFError, OSError):
            while True:
                while self._connection.poll():
                    self._obey(self._connection.recv())
                if time.monotonic() - nodes_s >= NODES_EVERY_S:
                    self._send_nodes()
                    nodes_s = time.monotonic()
                self._follow_actors()

    def _obey(self, message: Submit | Leave | Kill) -> None:
        if isinstance(message, Submit):
            self._submit(message)
        elif (actor := self._actors.get(message.number)) is None:
            return
        elif isinstance(message, Leave):
            actor.handle.leave.remote()
        else:
            self._ray.kill(actor.handle)

    def _send_nodes(self) -> None:
        # Blocks while the cluster's head does not respond.
        self._connection.send(Nodes(living_nodes(self._ray.nodes())))

    def _submit(self, message: Submit) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        slot = message.slot
        worker = self._ray.remote(CanopyWorker).options(
            num_cpus=slot.cpus,
            num_gpus=slot.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=_CALLS,
            scheduling_strategy=NodeAffinitySchedulingStrategy(slot.node.id, soft=False),
        )
        handle = worker.remote(message.command)
        self._actors[message.number] = _Actor(handle, handle.is_there.remote())

    def _follow_actors(self) -> None:
        """Waits up to 0.1 s for the start or end of a worker."""
        now_s = time.monotonic()
        for actor in self._actors.values():
            if actor.pending is None and now_s >= actor.retry_at_s:
                actor.pending = actor.handle.wait.remote()
        pending = {actor.pending: number for number, actor in self._actors.items() if actor.pending}
        if not pending:
            self._connection.poll(_TICK_S)
            return
        ready, _ = self._ray.wait(list(pending), timeout=_TICK_S)
        for reference in ready:
            self._report(pending[reference], reference)

    def _report(self, number: int, reference: Any) -> None:
        actor = self._actors[number]
        actor.pending = None
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.ActorUnavailableError:
            actor.retry_at_s = time.monotonic() + RETRY_S
            return
        except self._ray.exceptions.RayError as error:
            ended = WorkerEnded(Ending.DIED, _end_text(error))
        else:
            if not actor.has_started:
                actor.has_started = True
                self._connection.send(Started(number))
            if result is True:
                return
            ended = worker_ended(result)
        # Report a lost node first, so that no new worker is placed there.
        self._send_nodes()
        del self._actors[number]
        self._connection.send(Ended(number, ended))


def _end_text(error: Exception) -> str:
    """Returns how a worker that Ray lost ended."""
    text = str(error)
    for fragment, end_text in _END_TEXTS.items():
        if fragment in text:
            return end_text
    return f"was lost ({first_line(error)})"


_END_TEXTS = {
    "node has died": "was lost with its node",
    "not schedulable": "was lost with its node",
    "NODE_OUT_OF_MEMORY": "was killed by Ray because the node ran out of memory",
    "killed by `ray.kill": "was killed through Ray",
    "worker process has died": "was killed",
}


def _reason(error: BaseException) -> str:
    """Returns the first line of Ray's error, or `NO_TOKEN` if that is among its causes."""
    causes: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    return NO_TOKEN if any(NO_TOKEN in text for text in causes) else first_line(error)
