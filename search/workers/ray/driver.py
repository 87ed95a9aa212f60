"""The process that speaks with Ray: places actors, listens to them, and follows the cluster.

Ray wants a process for itself: it takes over signals, prints what it likes, and ends the process
when it has lost its cluster. So it has one, whose output is a log, and the launcher hears of it
through a pipe, as it hears of workers.
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
AGAIN_S = 1.0
"""After as long as this a worker is asked again that could not be reached."""
_TICK_S = 0.1

_LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Its name says what it is about; without it a new cluster listens to every network."""

# What is sent to the launcher.
OPENED = "opened"
REFUSED = "refused"
ALIVE = "alive"
NODES = "nodes"
PLACED = "placed"
EVENTS = "told"
OVER = "over"
# What it sends.
PLACE = "place"
LEAVE = "leave"
KILL = "kill"
FORGET = "forget"


@dataclass(frozen=True)
class RayJob:
    """What the process is started with.

    Attributes:
        address: of the cluster; `LOCAL` for a new one on this machine.
        log: the file that Ray's messages go to.
        versions: `decisive_versions`.
        environment: of the process.
    """

    address: str
    log: Path
    versions: Mapping[str, str]
    environment: Mapping[str, str] = field(repr=False)


def run_ray(job: RayJob, connection: "Connection[Any, Any]") -> None:
    """The whole life of the process; it ends when the launcher hangs up."""
    os.setsid()  # Ctrl-C in the terminal is the launcher's
    os.environ.clear()
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", **job.environment})
    if job.address == LOCAL:
        os.environ[_LOOPBACK_VARIABLE] = "0"
    with job.log.open("a", buffering=1, encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()} begins", flush=True)  # noqa: T201
    import ray

    try:
        _open(job.address)
    except Exception as error:  # noqa: BLE001 - whatever Ray has against it
        connection.send((REFUSED, (_reason(error),)))
        return
    try:
        _Speaker(job.versions, connection).run()
    finally:
        ray.shutdown()


def _open(address: str) -> None:
    """Connects to a cluster, or starts one on this machine.

    Raises:
        Exception: whatever Ray has against it.
    """
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address == LOCAL:
        options["include_dashboard"] = False
    ray.init(address=address, **options)


@dataclass
class _Actor:
    """A worker as this process knows it.

    Attributes:
        handle: Ray's.
        asked: what it has been asked, whose answer is to come.
        is_placed: whether it has answered.
        received: how much it has told.
        again_s: when to ask it again, where it could not be reached.
    """

    handle: Any
    asked: Any
    is_placed: bool = False
    received: int = 0
    again_s: float = 0.0


class _Speaker:
    """Does what the launcher wants and passes on what it should know.

    Args:
        versions: `decisive_versions`.
        connection: to the launcher.
    """

    def __init__(self, versions: Mapping[str, str], connection: "Connection[Any, Any]") -> None:
        import ray

        from canopy_search.search.workers.ray import actor as module

        self._ray: Any = ray
        self._ray.cloudpickle.register_pickle_by_value(module)
        self._worker = module.RayWorker
        self._versions = dict(versions)
        self._connection = connection
        self._actors: dict[int, _Actor] = {}
        self._nodes: list[Node] = []
        self._nodes_s = 0.0

    def run(self) -> None:
        """Works until the launcher hangs up."""
        self._nodes = self._living()
        self._send(OPENED, self._nodes)
        self._nodes_s = time.monotonic()
        orders: Mapping[str, Callable[..., None]] = {
            PLACE: self._place,
            LEAVE: self._leave,
            KILL: self._kill,
            FORGET: self._forget,
        }
        with suppress(EOFError, OSError):
            while True:
                while self._connection.poll():
                    name, arguments = self._connection.recv()
                    orders[name](*arguments)
                self._follow_nodes()
                self._listen()

    def _send(self, name: str, *arguments: Any) -> None:
        self._connection.send((name, arguments))

    def _living(self) -> list[Node]:
        return living_nodes(self._ray.nodes())

    def _follow_nodes(self, *, at_once: bool = False) -> None:
        now_s = time.monotonic()
        if not at_once and now_s - self._nodes_s < NODES_EVERY_S:
            return
        self._nodes_s = now_s
        nodes = self._living()  # stands still while the cluster's head does not answer
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

    def _listen(self) -> None:
        """Waits a moment for answers, and passes them on."""
        now_s = time.monotonic()
        for actor in self._actors.values():
            if actor.asked is None and now_s >= actor.again_s:
                actor.asked = actor.handle.poll.remote(actor.received)
        asked = {actor.asked: number for number, actor in self._actors.items() if actor.asked}
        if not asked:
            self._connection.poll(_TICK_S)
            return
        ready, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(list(asked), timeout=_TICK_S)
        for reference in ready:
            self._take(asked[reference], reference)

    def _take(self, number: int, reference: Any) -> None:
        actor = self._actors[number]
        actor.asked = None
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.ActorUnavailableError:
            actor.again_s = time.monotonic() + AGAIN_S
            return
        except self._ray.exceptions.RayError as error:
            self._end(number, _end_text(error))
            return
        if not actor.is_placed:
            actor.is_placed = True
            self._send(PLACED, number)
        if answer is True:
            return
        event, how = answer
        actor.received += len(event)
        if event:
            self._send(EVENTS, number, event)
        if how is not None:
            self._end(number, how)

    def _end(self, number: int, how: str) -> None:
        # First what became of its node: where that is lost, too, no other one is placed there.
        self._follow_nodes(at_once=True)
        self._actors.pop(number)
        self._send(OVER, number, how)


def _end_text(error: Exception) -> str:
    """Returns how a worker ended that Ray has lost, in words."""
    text = str(error)
    for sign, words in _SIGNS.items():
        if sign in text:
            return words
    return f"was lost ({_first_line(error)})"


_SIGNS = {
    "node has died": "was lost with its node",
    "not schedulable": "was lost with its node",
    "NODE_OUT_OF_MEMORY": "was killed by Ray, since the node's memory was full",
    "killed by `ray.kill": "was killed through Ray",
    "worker process has died": "was killed; its process is gone",
}


def _reason(error: BaseException) -> str:
    """Returns what Ray says first, or that it is about a token: that is among the causes."""
    causes: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    return NO_TOKEN if any(NO_TOKEN in each for each in causes) else _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
