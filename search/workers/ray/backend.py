"""Workers as actors of a Ray cluster, one per device slot of its nodes."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal

import psutil

from canopy_search.dashboards.formatting.values import counted
from canopy_search.search.errors import PlacementError, SearchFailedError
from canopy_search.search.events import Ending, WorkerEnded
from canopy_search.search.study.plan import SearchPlan
from canopy_search.search.workers.backend import Job, JobEvent, WorkerSlot
from canopy_search.search.workers.forkserver import CONTEXT
from canopy_search.search.workers.logs import log_folder
from canopy_search.search.workers.ray.address import LOCAL, choose_address, unusable
from canopy_search.search.workers.ray.driver import (
    Ended,
    Kill,
    Leave,
    Nodes,
    RayJob,
    Refused,
    Started,
    Submit,
    run_ray,
)
from canopy_search.search.workers.ray.slots import Node, RaySlot, RaySlots
from canopy_search.search.workers.remote_search import DATABASE_REMEDY, RemoteSearch
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

    def open(self, plan: SearchPlan, note: Callable[[str], None]) -> "RayBackend":
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
        most = None if self.workers == "auto" else self.workers
        slots = RaySlots(device, plan.config.search.slots_per_gpu, most)
        log = log_folder(plan.workspace.home, plan.study) / RAY_LOG
        driver, nodes = _connect(self.address, log)
        backend = RayBackend(driver, RemoteSearch(plan, note), slots, nodes)
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
class DriverProcess:
    """Ray's driver process, and the pipe to it.

    Attributes:
        process: the driver process.
        connection: pipe to it.
        log: file with the output of Ray and of the workers.
        address: address of the cluster.
    """

    process: ForkServerProcess
    connection: "Connection[Any, Any]"
    log: Path
    address: str

    def send(self, message: Submit | Leave | Kill) -> None:
        """Sends a command; a dead process is noticed when its pipe is read."""
        with suppress(OSError):
            self.connection.send(message)

    def close(self) -> None:
        """Closes the pipe; then the process ends, and stops a cluster that it started."""
        self.connection.close()
        self.process.join(_CLOSE_S)
        if self.process.is_alive():  # Ray waits a minute for a lost cluster
            self.process.kill()
            self.process.join()


def _connect(address: str | None, log: Path) -> tuple[DriverProcess, list[Node]]:
    """Starts the driver process; returns it and the nodes that it found.

    Raises:
        PlacementError: the cluster cannot be used.
    """
    chosen = choose_address(address)
    launcher_end, driver_end = CONTEXT.Pipe()
    job = RayJob(chosen, log, dict(os.environ))
    process = CONTEXT.Process(target=run_ray, args=(job, driver_end), name="canopy ray")
    process.start()
    driver_end.close()
    driver = DriverProcess(process, launcher_end, log, chosen)
    answer: Nodes | Refused = Refused(f"its process ended, see {log}")
    try:
        with suppress(EOFError, ConnectionError):
            answer = launcher_end.recv()
    except BaseException:  # Ctrl-C; what Ray was starting ends with the process
        process.kill()
        driver.close()
        raise
    if isinstance(answer, Nodes):
        return driver, answer.nodes
    driver.close()
    raise unusable(chosen, answer.reason)


@dataclass
class _Worker:
    """A worker on a node, and its known state.

    Attributes:
        number: number of the worker, counted by the backend.
        slot: slot of the worker.
        driver: the process that runs it.
        worker_ids: its id in the database.
        submitted_s: when it was requested from Ray, by the monotonic clock.
        is_waiting: whether Ray has not started it yet.
    """

    number: int
    slot: RaySlot
    driver: DriverProcess
    worker_ids: Sequence[int]
    submitted_s: float
    is_waiting: bool = True

    def cancel(self) -> None:
        self.driver.send(Kill(self.number) if self.is_waiting else Leave(self.number))

    def kill(self) -> None:
        self.driver.send(Kill(self.number))


class RayBackend:
    """The backend of a Ray cluster.

    Args:
        driver: Ray's driver process.
        search: the search.
        slots: chooses the slots.
        nodes: nodes that are alive.
    """

    leave_s = 8.0
    one_machine = False

    def __init__(
        self, driver: DriverProcess, search: RemoteSearch, slots: RaySlots, nodes: list[Node]
    ) -> None:
        self._driver = driver
        self._search = search
        self._chooser = slots
        self._nodes = nodes
        self._slots = {slot.slot.key: slot for slot in slots.choose(nodes)}
        self._workers: dict[int, _Worker] = {}
        self._count = 0
        self._events: list[JobEvent] = []
        self._full: set[str] = set()
        self._is_lost = False
        self._is_silent = False
        self._last_message_s = time.monotonic()

    def describe(self) -> str:
        """Returns one line with the nodes and the workers."""
        started = ", started for this search" if self._driver.address == LOCAL else ""
        nodes, workers = counted(len(self._nodes), "node"), counted(len(self._slots), "worker")
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
                f"{self._search.unreachable()} from {', '.join(names)}; {DATABASE_REMEDY}"
            )

    def slots(self) -> Sequence[WorkerSlot]:
        """Returns the device slots of the nodes that are alive.

        Raises:
            SearchFailedError: the cluster is lost.
        """
        self._receive()
        if self._is_lost:
            raise SearchFailedError(
                f"the Ray cluster is lost (see {self._driver.log}); no results are lost: run the "
                "same command again to resume when the cluster is back"
            )
        self._note_waiting()
        return [slot.slot for slot in self._slots.values()]

    def submit(self, slot: WorkerSlot, log: Path) -> Job:  # noqa: ARG002 - Ray writes one log
        """Places an actor on the slot's node."""
        self._count += 1
        placed = self._slots[slot.key]
        number = int(slot.key.rpartition(":")[2]) + 1
        command = self._search.command(threads=placed.threads, number=number)
        ids = [int(command.placed["worker_id"] or 0)]
        worker = _Worker(self._count, placed, self._driver, ids, time.monotonic())
        if self._can_reach_database(placed.node):
            self._workers[self._count] = worker
            self._driver.send(Submit(self._count, placed, command))
        else:
            text = f"{self._search.unreachable()} from the node; {DATABASE_REMEDY}"
            self._events.append(JobEvent(worker, WorkerEnded(Ending.UNFIT, text)))
        return worker

    def events(self, timeout_s: float) -> Sequence[JobEvent]:
        """Waits for the end of a worker."""
        deadline_s = time.monotonic() + timeout_s
        while not self._events and (left_s := deadline_s - time.monotonic()) > 0:
            if self._is_lost:
                time.sleep(left_s)
            elif self._driver.connection.poll(left_s):
                self._receive()
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Ends the driver process, and with it a cluster that it started."""
        self._driver.close()

    def _receive(self) -> None:
        try:
            while not self._is_lost and self._driver.connection.poll():
                message = self._driver.connection.recv()
                self._last_message_s, self._is_silent = time.monotonic(), False
                self._handle(message)
        except (EOFError, OSError):
            self._is_lost = True
        if not self._is_silent and time.monotonic() - self._last_message_s > SILENT_S:
            self._is_silent = True
            self._search.note(
                "Ray's head node does not respond; waiting for it, the workers continue"
            )

    def _handle(self, message: Nodes | Started | Ended) -> None:
        if isinstance(message, Nodes):
            self._nodes = message.nodes
            self._slots = {slot.slot.key: slot for slot in self._chooser.choose(self._nodes)}
            # A worker is lost with its node, and must not be replaced there.
            alive = {node.id for node in self._nodes}
            self._workers = {
                number: worker
                for number, worker in self._workers.items()
                if worker.slot.node.id in alive
            }
        elif isinstance(message, Started) and message.number in self._workers:
            self._workers[message.number].is_waiting = False
        elif isinstance(message, Ended) and message.number in self._workers:
            worker = self._workers.pop(message.number)
            self._events.append(JobEvent(worker, message.event))

    def _note_waiting(self) -> None:
        """Reports once per node that it has no room for a worker."""
        for worker in self._workers.values():
            node, waits_s = worker.slot.node, time.monotonic() - worker.submitted_s
            if not worker.is_waiting:
                self._full.discard(node.id)
            elif waits_s > FULL_S and node.id not in self._full:
                self._full.add(node.id)
                needs = "a GPU" if worker.slot.gpus else counted(worker.slot.cpus, "CPU")
                host = worker.slot.slot.host
                self._search.note(f"{host} has no room yet for a worker, which needs {needs}")

    def _can_reach_database(self, node: Node) -> bool:
        return (
            not is_on_this_machine(self._search.plan.workspace.url)
            or node.address in _own_addresses()
        )


def _own_addresses() -> set[str]:
    return {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
