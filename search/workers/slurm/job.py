"""What runs in a job: the workers of a post, until the study is finished or the job's time is up.

It imports nothing of Canopy's before it has said that it is there, and nothing that reads the order
before it knows that the versions fit.
"""

import os
import pickle
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from canopy_search.search.workers.forkserver import warm_up
from canopy_search.search.workers.graceful_exit import SIGNALS, leaving_in_time
from canopy_search.search.workers.slurm.event_log import EventLog

if TYPE_CHECKING:
    from canopy_search.search.workers.backend import WorkerEvent
    from canopy_search.search.workers.node_agent import Order

EVENTS = "told"
"""The file in which the job tells."""
CALLED_OFF = "called-off"
"""The file that is not empty when the job shall leave. That it is there says nothing: a network
file system may know for a minute that a file is not."""
BEGAN = "began"
"""The job works; the argument is its host."""
OVER = "over"
"""Nothing follows; the argument is how the job ended."""

USER_SIGNAL = f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"
"""What submitit has SLURM send some time before the limit."""

_GRACE_S = 6.0
_CALLED_EVERY_S = 1.0
_BATCH_EVERY_S = 2.0
_BATCH = "batch_done"
_SHORTEST_MARGIN_S = 10.0
_LONGEST_MARGIN_S = 60.0


@dataclass(frozen=True)
class Job:
    """What a job is submitted with.

    Attributes:
        order: for the workers.
        limit_s: the time limit of the job, in seconds.
    """

    order: "Order"
    limit_s: float


def margin_s(limit_s: float) -> float:
    """Returns how long before its limit a job begins to leave, in seconds."""
    return min(_LONGEST_MARGIN_S, max(_SHORTEST_MARGIN_S, limit_s / 20))


def run_job(folder: str, wanted: Mapping[str, str], job: bytes) -> None:
    """Works as a job, and tells how that goes in a file of its folder.

    All that SLURM and submitit send before they kill - at the limit, at a preemption, at a
    cancellation - means the same: the workers leave and release their trials.

    Args:
        folder: of the job.
        wanted: `decisive_versions` of the starter.
        job: the pickled `Job`, which another version of Canopy may not be able to read.
    """
    user_signal = signal.Signals[USER_SIGNAL]
    # SLURM sends it to every process of the job, and it would kill those that do not expect it;
    # what is begun from here on ignores it.
    signal.signal(user_signal, signal.SIG_IGN)
    # Comes with every SIGTERM, and after a suspension; submitit's handler only logs it.
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    file = EventLog(Path(folder, EVENTS))
    how = "ended"
    try:
        with (
            _parent_handle() as parent,
            leaving_in_time(parent, signals=(*SIGNALS, user_signal), grace_s=_GRACE_S),
        ):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            file.emit(BEGAN, (socket.gethostname(),))
            warm_up()
            _work(Path(folder), file, wanted, job)
    except KeyboardInterrupt:
        file.emit("left", ("it was told to leave",))
    except BaseException as error:
        file.emit("log", (traceback.format_exc(),))
        how = f"died of {type(error).__name__}: {error}"
        raise
    finally:
        file.emit(OVER, (how,))


def left_s(limit_s: float) -> float:
    """Returns what is left of the job's time, in seconds; its clock runs since before this process.

    Args:
        limit_s: the time limit of the job.
    """
    named = os.environ.get("SLURM_JOB_START_TIME")
    began_s = float(named) if named else psutil.Process(os.getppid()).create_time()
    ends_s = float(os.environ.get("SLURM_JOB_END_TIME") or "inf")
    return min(began_s + limit_s, ends_s) - time.time()


def _work(folder: Path, file: EventLog, wanted: Mapping[str, str], pickled: bytes) -> None:
    from canopy_search.search.errors import UnfitMachineError
    from canopy_search.search.workers.node_agent import check_versions, work_to_order

    try:
        check_versions(wanted)
    except UnfitMachineError as error:
        file.emit("failed", (str(error), False))
        return
    job: Job = pickle.loads(pickled)  # noqa: S301 - the starter's own
    order = replace(job.order, limit_s=left_s(job.limit_s) - margin_s(job.limit_s))
    cpus = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
    if cpus and order.workers == 1:
        order = replace(order, threads=int(cpus))
    work_to_order(order, _telling(file), _called_off(folder / CALLED_OFF))


def _telling(file: EventLog) -> Callable[["WorkerEvent"], None]:
    """Returns what writes all to the file, but not every batch: file servers are slow."""
    batches_s: dict[str, float] = {}

    def emit(event: "WorkerEvent") -> None:
        if event.name == _BATCH:
            now_s = time.monotonic()
            if now_s - batches_s.get(event.worker_id, 0.0) < _BATCH_EVERY_S:
                return
            batches_s[event.worker_id] = now_s
        file.emit(*event)

    return emit


def _called_off(path: Path) -> Callable[[], bool]:
    asked_s = float("-inf")

    def is_called_off() -> bool:
        nonlocal asked_s
        now_s = time.monotonic()
        if now_s - asked_s < _CALLED_EVERY_S:
            return False
        asked_s = now_s
        try:
            return bool(path.read_bytes())
        except OSError:
            return False

    return is_called_off


@contextmanager
def _parent_handle() -> Iterator[int | None]:
    """Yields what becomes readable when the parent is gone; None where there is no such thing."""
    try:
        handle = os.pidfd_open(os.getppid())
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)
