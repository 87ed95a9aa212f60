"""Workers as actors of a Ray cluster, one per device slot of its nodes."""

import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal

import psutil

from canopy_search.search.errors import PlacementError, SearchFailedError
from canopy_search.search.study.plan import SearchPlan
from canopy_search.search.workers.backend import FAILED, PlacedWorker, WorkerEvent, WorkerSlot
from canopy_search.search.workers.forkserver import CONTEXT
from canopy_search.search.workers.local_backend import LEAVE_S
from canopy_search.search.workers.logs import log_folder
from canopy_search.search.workers.node_agent import Order, decisive_versions
from canopy_search.search.workers.ray.address import LOCAL, choose_address, unusable
from canopy_search.search.workers.ray.driver import (
    ALIVE,
    EVENTS,
    FORGET,
    KILL,
    LEAVE,
    NODES,
    OPENED,
    OVER,
    PLACE,
    PLACED,
    REFUSED,
    RayJob,
    run_ray,
)
from canopy_search.search.workers.ray.slots import Node, RaySlot, RaySlots
from canopy_search.storage.connection.reach import is_on_this_machine

RAY_LOG = "ray.log"
SILENT_S = 10.0
"""Seconds without a message after which the user is told that the cluster is silent."""
FULL_S = 30.0
"""Seconds after which a node that has not started a worker is reported as full."""
_CLOSE_S = 10.0


@dataclass(frozen=True)
class OnRay:
    """A search on a Ray cluster.

    Attributes:
        address: address of the cluster; None for the one of RAY_ADDRESS or the one running on this
            machine, else a new one on this machine.
        workers: maximum number of workers; ``auto`` for one per device slot.
    """

    address: str | None = None
    workers: int | Literal["auto"] = "auto"

    def open(self, plan: SearchPlan, url: str | None, note: Callable[[str], None]) -> "RayBackend":
        """Connects to the cluster, or starts one.

        Raises:
            PlacementError: Ray is not installed, the cluster cannot be reached, or its nodes
                cannot reach the database.
        """
        check_ray()
        device = plan.config.training.device
        if ":" in device:
            raise PlacementError(
                f"training.device: {device} is a GPU of one machine, but Ray assigns each worker "
                "its own GPU; set it to cuda or auto"
            )
        link, nodes = _connect(self.address, log_folder(plan.workspace.home, plan.study) / RAY_LOG)
        most = None if self.workers == "auto" else self.workers
        slots = RaySlots(device, plan.config.search.slots_per_gpu, most)
        backend = RayBackend(link, plan, url, slots, nodes, note)
        try:
            backend.check_database()
            note(backend.describe())
        except BaseException:
            backend.close()
            raise
        return backend


def check_ray() -> None:
    """Raises PlacementError if Ray is not installed."""
    if find_spec("ray") is None:
        raise PlacementError("--on ray needs Ray: pip install 'canopy-search[ray]'")


@dataclass
class _Link:
    """Ray's driver process, and the pipe to it.

    Attributes:
        process: the driver process.
        connection: pipe to it.
        log: file with Ray's output.
        address: address of the cluster.
    """

    process: ForkServerProcess
    connection: "Connection[Any, Any]"
    log: Path
    address: str

    def send(self, name: str, *arguments: Any) -> None:
        """Sends a command; a dead process is noticed when its pipe is read."""
        with suppress(OSError):
            self.connection.send((name, arguments))

    def close(self) -> None:
        """Closes the pipe; then the process ends, and stops a cluster that it started."""
        self.connection.close()
        self.process.join(_CLOSE_S)
        if self.process.is_alive():  # Ray waits a minute for a lost cluster
            self.process.kill()
            self.process.join()


def _connect(address: str | None, log: Path) -> tuple[_Link, list[Node]]:
    """Starts the driver process; returns it and the nodes that it found.

    Raises:
        PlacementError: the cluster cannot be used.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    chosen = choose_address(address)
    link, (name, arguments) = _start_driver(chosen, log)
    if name == OPENED:
        return link, arguments[0]
    link.close()
    reason = arguments[0] if arguments else f"its process ended, see {log}"
    raise unusable(chosen, reason)


def _start_driver(address: str, log: Path) -> tuple[_Link, tuple[str, tuple[Any, ...]]]:
    launcher_end, driver_end = CONTEXT.Pipe()
    job = RayJob(address, log, decisive_versions(), dict(os.environ))
    process = CONTEXT.Process(target=run_ray, args=(job, driver_end), name="canopy ray")
    process.start()
    driver_end.close()
    link = _Link(process, launcher_end, log, address)
    try:
        return link, launcher_end.recv()
    except (EOFError, OSError):
        return link, (REFUSED, ())
    except BaseException:  # Ctrl-C; what Ray was starting ends with the process
        process.kill()
        link.close()
        raise


@dataclass
class _RayWorker:
    """A worker on a node, and its known state.

    Attributes:
        number: number of the worker, counted by the backend.
        slot: slot of the worker.
        backend: backend that placed it.
        placed_s: when it was requested from Ray, by the monotonic clock.
        is_waiting: whether Ray has not started it yet.
        events: events not polled yet.
        ending: how it ended, if it has.
    """

    number: int
    slot: RaySlot
    backend: "RayBackend"
    placed_s: float
    is_waiting: bool = True
    events: deque[WorkerEvent] = field(default_factory=deque)
    ending: str | None = None

    def poll(self) -> list[WorkerEvent]:
        events = list(self.events)
        self.events.clear()
        return events

    def end_text(self) -> str | None:
        # If the node is lost, so is its slot, and the worker must not be replaced.
        return self.ending if self.backend.has(self.slot.node) else None

    def leave(self) -> None:
        self.backend.link.send(KILL if self.is_waiting else LEAVE, self.number)

    def kill(self) -> None:
        self.backend.link.send(KILL, self.number)

    def close(self) -> None:
        self.backend.forget(self.number)


class RayBackend:
    """The backend of a Ray cluster.

    Args:
        link: Ray's driver process.
        plan: plan of the search.
        url: URL of the database; None for the embedded one.
        slots: chooses the slots.
        nodes: nodes that are alive.
        note: receives messages for the user.
    """

    leave_s = LEAVE_S + 1.5
    one_machine = False

    def __init__(  # noqa: PLR0917 - as above
        self,
        link: _Link,
        plan: SearchPlan,
        url: str | None,
        slots: RaySlots,
        nodes: list[Node],
        note: Callable[[str], None],
    ) -> None:
        self.link = link
        self._plan = plan
        self._url = url
        self._chooser = slots
        self._nodes = nodes
        self._slots = {slot.slot.key: slot for slot in slots.choose(nodes)}
        self._workers: dict[int, _RayWorker] = {}
        self._count = 0
        self._note = note
        self._full: set[str] = set()
        self._is_lost = False
        self._is_silent = False
        self._last_message_s = time.monotonic()

    def has(self, node: Node) -> bool:
        """Whether a node is alive."""
        return any(other.id == node.id for other in self._nodes)

    def describe(self) -> str:
        """Returns one line with the nodes and the workers."""
        started = ", started for this search" if self.link.address == LOCAL else ""
        nodes, workers = _counted(len(self._nodes), "node"), _counted(len(self._slots), "worker")
        hosts = dict.fromkeys(slot.slot.host for slot in self._slots.values())
        return f"Ray: {nodes}{started}; {workers} on {', '.join(hosts) or 'none of them'}"

    def check_database(self) -> None:
        """Checks that the nodes can reach the database.

        Raises:
            PlacementError: a node cannot.
        """
        names = [node.name for node in self._nodes if not self._can_reach_database(node)]
        if names:
            raise PlacementError(
                f"{self._unreachable()} from {', '.join(names)}; {_DATABASE_REMEDY}"
            )

    def slots(self) -> Sequence[WorkerSlot]:
        """Returns the device slots of the nodes that are alive.

        Raises:
            SearchFailedError: the cluster is lost.
        """
        self._poll()
        if self._is_lost:
            raise SearchFailedError(
                f"the Ray cluster is lost (see {self.link.log}); no results are lost: run the same "
                "command again to resume when the cluster is back"
            )
        self._note_waiting()
        return [slot.slot for slot in self._slots.values()]

    def place(self, slot: WorkerSlot, log: Path) -> PlacedWorker:  # noqa: ARG002 - written by the launcher
        """Places an actor on the slot's node."""
        self._count += 1
        placed = self._slots[slot.key]
        worker = _RayWorker(self._count, placed, self, time.monotonic())
        self._workers[self._count] = worker
        if not self._can_reach_database(placed.node):
            text = f"{self._unreachable()} from the node; {_DATABASE_REMEDY}"
            worker.events.append(WorkerEvent(FAILED, (text, False)))
            worker.ending = "cannot work"
            return worker
        order = Order(self._plan, self._url, workers=1, threads=placed.threads)
        self.link.send(PLACE, self._count, placed, pickle.dumps(order))
        return worker

    def wait(self, workers: Sequence[PlacedWorker], timeout_s: float) -> None:
        """Waits for events of the workers."""
        placed = [worker for worker in workers if isinstance(worker, _RayWorker)]
        deadline_s = time.monotonic() + timeout_s
        while not (self._is_lost or any(each.events or each.end_text() for each in placed)):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not wait([self.link.connection], timeout=left_s):
                return
            self._poll()
        if self._is_lost:
            time.sleep(max(0.0, deadline_s - time.monotonic()))

    def forget(self, number: int) -> None:
        """Drops a worker, and kills its actor if it still exists."""
        if self._workers.pop(number, None) is not None:
            self.link.send(FORGET, number)

    def close(self) -> None:
        """Ends the driver process, and with it a cluster that it started."""
        self.link.close()

    def _poll(self) -> None:
        try:
            while not self._is_lost and self.link.connection.poll():
                name, arguments = self.link.connection.recv()
                self._last_message_s, self._is_silent = time.monotonic(), False
                self._handle(name, arguments)
        except (EOFError, OSError):
            self._is_lost = True
        if not self._is_silent and time.monotonic() - self._last_message_s > SILENT_S:
            self._is_silent = True
            self._note("Ray's head node does not respond; waiting for it, the workers continue")

    def _note_waiting(self) -> None:
        """Reports once per node that it has no room for a worker."""
        for worker in self._workers.values():
            node, waits_s = worker.slot.node, time.monotonic() - worker.placed_s
            if worker.is_waiting and worker.ending is None and waits_s > FULL_S:
                if node.id not in self._full:
                    self._full.add(node.id)
                    needs = "a GPU" if worker.slot.gpus else _counted(worker.slot.cpus, "CPU")
                    host = worker.slot.slot.host
                    self._note(f"{host} has no room yet for a worker, which needs {needs}")
            elif not worker.is_waiting:
                self._full.discard(node.id)

    def _handle(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == ALIVE:
            return
        if name == NODES:
            self._nodes = arguments[0]
            self._slots = {slot.slot.key: slot for slot in self._chooser.choose(self._nodes)}
            return
        worker = self._workers.get(arguments[0])
        if worker is None:
            return
        if name == PLACED:
            worker.is_waiting = False
        elif name == EVENTS:
            worker.events.extend(WorkerEvent(*event) for event in arguments[1])
        elif name == OVER:
            worker.ending = arguments[1]

    def _can_reach_database(self, node: Node) -> bool:
        return not is_on_this_machine(self._url) or node.address in _own_addresses()

    def _unreachable(self) -> str:
        database = "the embedded Postgres" if self._url is None else "the database of DATABASE_URL"
        return f"{database} cannot be reached"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_DATABASE_REMEDY = (
    "set DATABASE_URL to a Postgres server that all machines can reach "
    "(postgresql://user:password@host/database)"
)


def _own_addresses() -> set[str]:
    return {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
