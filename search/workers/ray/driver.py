"""The driver process of Ray: places actors, polls them, and monitors the nodes of the cluster.

Ray needs a process of its own: it handles signals, prints to the terminal, and ends the process
when it loses its cluster. The output of this process goes to a log, and the launcher gets its
events through a pipe, as it does from workers.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from canopy_search.search.workers.ray.address import LOCAL, NO_TOKEN
from canopy_search.search.workers.ray.slots import Node, RaySlot, living_nodes

NODES_EVERY_S = 1.0
RETRY_S = 1.0
"""Seconds until an unreachable worker is polled again."""
_TICK_S = 0.1

_LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0 so that a new cluster listens only on this machine; otherwise on every network."""

# Messages to the launcher.
OPENED = "opened"
REFUSED = "refused"
ALIVE = "alive"
NODES = "nodes"
PLACED = "placed"
EVENTS = "events"
OVER = "over"
# Messages from the launcher.
PLACE = "place"
LEAVE = "leave"
KILL = "kill"
FORGET = "forget"


@dataclass(frozen=True)
class RayJob:
    """Arguments of the driver process.

    Attributes:
        address: address of the cluster; `LOCAL` for a new one on this machine.
        log: file for Ray's output.
        versions: `decisive_versions` of this machine.
        environment: environment variables of the process.
    """

    address: str
    log: Path
    versions: Mapping[str, str]
    environment: Mapping[str, str] = field(repr=False)


def run_ray(job: RayJob, connection: "Connection[Any, Any]") -> None:
    """Main function of the process; it ends when the launcher closes the pipe."""
    os.setsid()  # only the launcher handles Ctrl-C in the terminal
    os.environ.clear()
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", **job.environment})
    if job.address == LOCAL:
        os.environ[_LOOPBACK_VARIABLE] = "0"
    with job.log.open("a", buffering=1, encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()} started", flush=True)  # noqa: T201
    import ray

    try:
        _open(job.address)
    except Exception as error:  # noqa: BLE001 - Ray raises many types
        connection.send((REFUSED, (_reason(error),)))
        return
    try:
        _Driver(job.versions, connection).run()
    finally:
        ray.shutdown()


def _open(address: str) -> None:
    """Connects to a cluster, or starts one on this machine.

    Raises:
        Exception: Ray cannot connect or start.
    """
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address == LOCAL:
        options["include_dashboard"] = False
    ray.init(address=address, **options)


@dataclass
class _Actor:
    """A worker's actor.

    Attributes:
        handle: Ray's handle of the actor.
        pending: reference of the call that has not returned yet; None if there is none.
        is_placed: whether it has responded.
        received: number of events received from it.
        retry_at_s: when to poll it again after it was unreachable, by the monotonic clock.
    """

    handle: Any
    pending: Any
    is_placed: bool = False
    received: int = 0
    retry_at_s: float = 0.0


class _Driver:
    """Runs the launcher's commands, and sends it the events of the workers.

    Args:
        versions: `decisive_versions` of this machine.
        connection: pipe to the launcher.
    """

    def __init__(self, versions: Mapping[str, str], connection: "Connection[Any, Any]") -> None:
        import ray

        from canopy_search.search.workers.ray import actor as actor_module

        self._ray: Any = ray
        self._ray.cloudpickle.register_pickle_by_value(actor_module)
        self._worker = actor_module.RayWorker
        self._versions = dict(versions)
        self._connection = connection
        self._actors: dict[int, _Actor] = {}
        self._nodes: list[Node] = []
        self._nodes_s = 0.0

    def run(self) -> None:
        """Works until the launcher closes the pipe."""
        self._nodes = self._alive_nodes()
        self._send(OPENED, self._nodes)
        self._nodes_s = time.monotonic()
        commands: Mapping[str, Callable[..., None]] = {
            PLACE: self._place,
            LEAVE: self._leave,
            KILL: self._kill,
            FORGET: self._forget,
        }
        with suppress(EOFError, OSError):
            while True:
                while self._connection.poll():
                    name, arguments = self._connection.recv()
                    commands[name](*arguments)
                self._update_nodes()
                self._poll_workers()

    def _send(self, name: str, *arguments: Any) -> None:
        self._connection.send((name, arguments))

    def _alive_nodes(self) -> list[Node]:
        return living_nodes(self._ray.nodes())

    def _update_nodes(self, *, at_once: bool = False) -> None:
        now_s = time.monotonic()
        if not at_once and now_s - self._nodes_s < NODES_EVERY_S:
            return
        self._nodes_s = now_s
        nodes = self._alive_nodes()  # blocks while the cluster's head does not respond
        if nodes == self._nodes:
            self._send(ALIVE)
        else:
            self._nodes = nodes
            self._send(NODES, nodes)

    def _place(self, number: int, slot: RaySlot, order: bytes) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        remote = self._ray.remote(self._worker).options(
            num_cpus=slot.cpus,
            num_gpus=slot.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=3,
            scheduling_strategy=NodeAffinitySchedulingStrategy(slot.node.id, soft=False),
        )
        handle: Any = remote.remote(self._versions, order)
        self._actors[number] = _Actor(handle, handle.is_there.remote())

    def _leave(self, number: int) -> None:
        if number in self._actors:
            self._actors[number].handle.leave.remote()

    def _kill(self, number: int) -> None:
        if number in self._actors:
            self._ray.kill(self._actors[number].handle)

    def _forget(self, number: int) -> None:
        actor = self._actors.pop(number, None)
        if actor is not None:
            self._ray.kill(actor.handle)

    def _poll_workers(self) -> None:
        """Waits up to 0.1 s for results of the actors, and forwards them."""
        now_s = time.monotonic()
        for actor in self._actors.values():
            if actor.pending is None and now_s >= actor.retry_at_s:
                actor.pending = actor.handle.poll.remote(actor.received)
        pending = {actor.pending: number for number, actor in self._actors.items() if actor.pending}
        if not pending:
            self._connection.poll(_TICK_S)
            return
        ready, _ = self._ray.wait(list(pending), num_returns=len(pending), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(list(pending), timeout=_TICK_S)
        for reference in ready:
            self._forward(pending[reference], reference)

    def _forward(self, number: int, reference: Any) -> None:
        actor = self._actors[number]
        actor.pending = None
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.ActorUnavailableError:
            actor.retry_at_s = time.monotonic() + RETRY_S
            return
        except self._ray.exceptions.RayError as error:
            self._end(number, _end_text(error))
            return
        if not actor.is_placed:
            actor.is_placed = True
            self._send(PLACED, number)
        if result is True:
            return
        events, end_text = result
        actor.received += len(events)
        if events:
            self._send(EVENTS, number, events)
        if end_text is not None:
            self._end(number, end_text)

    def _end(self, number: int, end_text: str) -> None:
        # Report a lost node first, so that no new worker is placed there.
        self._update_nodes(at_once=True)
        self._actors.pop(number)
        self._send(OVER, number, end_text)


def _end_text(error: Exception) -> str:
    """Returns how a worker that Ray lost ended."""
    text = str(error)
    for fragment, end_text in _END_TEXTS.items():
        if fragment in text:
            return end_text
    return f"was lost ({_first_line(error)})"


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
    return NO_TOKEN if any(NO_TOKEN in text for text in causes) else _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
