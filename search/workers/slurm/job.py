"""Main function of a job: runs the workers of a slot until the study or the job's time ends.

It reports its start before it imports the rest of Canopy, and checks the versions before it
unpickles the order.
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
"""The file of the job's events."""
CALLED_OFF = "called-off"
"""A file that is not empty when the job should leave. It always exists, because a network file
system may cache for a minute that a file does not exist."""
STARTED = "began"
"""The job has started; the argument is its host."""
OVER = "over"
"""The last event; the argument is how the job ended."""

USER_SIGNAL = f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"
"""The signal that submitit lets SLURM send some time before the limit."""

_GRACE_S = 6.0
_CHECK_CANCELLED_EVERY_S = 1.0
_BATCH_EVERY_S = 2.0
_BATCH = "batch_done"
_SHORTEST_MARGIN_S = 10.0
_LONGEST_MARGIN_S = 60.0


@dataclass(frozen=True)
class Job:
    """Arguments of a job.

    Attributes:
        order: what the workers run.
        limit_s: the time limit of the job, in seconds.
    """

    order: "Order"
    limit_s: float


def margin_s(limit_s: float) -> float:
    """Returns how long before its limit a job starts to leave, in seconds."""
    return min(_LONGEST_MARGIN_S, max(_SHORTEST_MARGIN_S, limit_s / 20))


def run_job(folder: str, versions: Mapping[str, str], job: bytes) -> None:
    """Runs a job, and writes its events to a file in its folder.

    Every signal that SLURM or submitit sends before it kills a job - at the limit, a preemption or
    a cancellation - has the same effect: the workers leave and release their trials.

    Args:
        folder: folder of the job.
        versions: `decisive_versions` of the machine that started the search.
        job: the pickled `Job`, which another version of Canopy may not be able to read.
    """
    user_signal = signal.Signals[USER_SIGNAL]
    # SLURM sends it to every process of the job, and it would kill processes without a handler;
    # processes started from here on ignore it.
    signal.signal(user_signal, signal.SIG_IGN)
    # SIGCONT follows every SIGTERM and suspension; submitit's handler only logs it.
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    event_log = EventLog(Path(folder, EVENTS))
    end_text = "ended"
    try:
        with (
            _parent_pidfd() as parent,
            leaving_in_time(parent, signals=(*SIGNALS, user_signal), grace_s=_GRACE_S),
        ):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            event_log.emit(STARTED, (socket.gethostname(),))
            warm_up()
            _work(Path(folder), event_log, versions, job)
    except KeyboardInterrupt:
        event_log.emit("left", ("it was asked to leave",))
    except BaseException as error:
        event_log.emit("log", (traceback.format_exc(),))
        end_text = f"died of {type(error).__name__}: {error}"
        raise
    finally:
        event_log.emit(OVER, (end_text,))


def left_s(limit_s: float) -> float:
    """Returns the time left for the job, in seconds; its clock started before this process.

    Args:
        limit_s: the time limit of the job.
    """
    slurm_start = os.environ.get("SLURM_JOB_START_TIME")
    started_s = float(slurm_start) if slurm_start else psutil.Process(os.getppid()).create_time()
    ends_s = float(os.environ.get("SLURM_JOB_END_TIME") or "inf")
    return min(started_s + limit_s, ends_s) - time.time()


def _work(folder: Path, event_log: EventLog, versions: Mapping[str, str], pickled: bytes) -> None:
    from canopy_search.search.errors import UnfitMachineError
    from canopy_search.search.workers.node_agent import check_versions, work_to_order

    try:
        check_versions(versions)
    except UnfitMachineError as error:
        event_log.emit("failed", (str(error), False))
        return
    job: Job = pickle.loads(pickled)  # noqa: S301 - written by our own search
    order = replace(job.order, limit_s=left_s(job.limit_s) - margin_s(job.limit_s))
    cpus = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
    if cpus and order.workers == 1:
        order = replace(order, threads=int(cpus))
    work_to_order(order, _throttled_emit(event_log), _cancel_check(folder / CALLED_OFF))


def _throttled_emit(event_log: EventLog) -> Callable[["WorkerEvent"], None]:
    """Returns a function that logs all events but few batches: file servers are slow."""
    batches_s: dict[str, float] = {}

    def emit(event: "WorkerEvent") -> None:
        if event.name == _BATCH:
            now_s = time.monotonic()
            if now_s - batches_s.get(event.worker_id, 0.0) < _BATCH_EVERY_S:
                return
            batches_s[event.worker_id] = now_s
        event_log.emit(*event)

    return emit


def _cancel_check(path: Path) -> Callable[[], bool]:
    checked_s = float("-inf")

    def is_cancelled() -> bool:
        nonlocal checked_s
        now_s = time.monotonic()
        if now_s - checked_s < _CHECK_CANCELLED_EVERY_S:
            return False
        checked_s = now_s
        try:
            return bool(path.read_bytes())
        except OSError:
            return False

    return is_cancelled


@contextmanager
def _parent_pidfd() -> Iterator[int | None]:
    """Yields a descriptor that is readable once the parent has exited; None if unsupported."""
    try:
        pidfd = os.pidfd_open(os.getppid())
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield pidfd
    finally:
        os.close(pidfd)
