"""Workers as SLURM jobs, which leave before their time limit and are replaced."""

import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from canopy_search.search.errors import PlacementError, SearchFailedError
from canopy_search.search.study.plan import SearchPlan
from canopy_search.search.workers.backend import LEFT, PlacedWorker, WorkerEvent, WorkerSlot
from canopy_search.search.workers.node_agent import Order, decisive_versions
from canopy_search.search.workers.slurm.event_log import EventLogTail
from canopy_search.search.workers.slurm.folders import JobFolders
from canopy_search.search.workers.slurm.job import CALLED_OFF, EVENTS, OVER, STARTED, Job
from canopy_search.search.workers.slurm.options import JobRequest
from canopy_search.search.workers.slurm.queue import (
    JobState,
    LocalQueue,
    Queue,
    RefusedError,
    SlurmQueue,
)
from canopy_search.storage.connection.reach import is_on_this_machine
from canopy_search.training.device.precision import resolve_threads

_READ_EVERY_S = 0.2
_READ_S_PER_JOB = 0.005
_SETTLED_S = 5.0
_RETRY_S = 30.0
_LAST_EVENTS_S = 10.0
"""The last events of a job can arrive on this machine up to this long after its end."""
_ROUNDS_WITHOUT_EPOCH = 3
_EPOCH_EVENTS = frozenset({"epoch_done", "trial_ended"})
_CLOSE_S = 5.0


@dataclass(frozen=True)
class OnSlurm:
    """A search in SLURM jobs.

    Attributes:
        request: number and resources of the jobs.
        is_local: whether submitit's local executor runs them on this machine instead.
    """

    request: JobRequest
    is_local: bool = False

    def open(
        self, plan: SearchPlan, url: str | None, note: Callable[[str], None]
    ) -> "SlurmBackend":
        """Checks SLURM, and cancels jobs left by an earlier search; submits none yet.

        Raises:
            PlacementError: submitit or SLURM is not installed, or the nodes cannot reach the
                database.
        """
        check_submitit()
        self._check_device(plan.config.training.device)
        queue: Queue
        folders = JobFolders(plan.workspace.home, plan.study)
        if self.is_local:
            queue = LocalQueue(self.request)
        else:
            queue = SlurmQueue(self.request, f"canopy-{folders.name}")
            if is_on_this_machine(url):
                server = "the embedded Postgres" if url is None else "the database of DATABASE_URL"
                raise PlacementError(
                    f"{server} cannot be reached from the SLURM nodes; set DATABASE_URL to a "
                    "Postgres server that all machines can reach "
                    "(postgresql://user:password@host/database)"
                )
        folders.create(queue, note)
        note(self._describe(queue))
        return SlurmBackend(self.request, queue, folders, plan, url, note, is_local=self.is_local)

    def _check_device(self, device: str) -> None:
        if ":" in device:
            raise PlacementError(
                f"training.device: {device} is a GPU of one machine, but SLURM assigns each job "
                "its own GPU; set it to cuda or auto"
            )
        if device == "cpu" and self.request.has_gpu:
            raise PlacementError(
                "training.device: cpu would leave the GPUs of --gpus idle; use --workers N instead"
            )

    def _describe(self, queue: Queue) -> str:
        request = self.request
        jobs = "1 job" if request.jobs == 1 else f"{request.jobs} jobs"
        resources = "one GPU" if request.has_gpu else "one worker on a CPU"
        where = f" in partition {request.partition}" if request.partition else ""
        hours = f"{request.hours:g} h"
        text = f"{queue.name}: {jobs} at a time{where}, each with {resources} for {hours}"
        if self.is_local and (request.partition or request.options):
            text += "; --partition and --slurm have no effect"
        return text


def check_submitit() -> None:
    """Raises PlacementError if submitit is not installed."""
    if find_spec("submitit") is None:
        raise PlacementError("--on slurm needs submitit: pip install 'canopy-search[slurm]'")


@dataclass
class _Placed:
    """A job and its known state.

    Attributes:
        index: number of its slot, from 0.
        folder: folder of the job.
        backend: backend that placed it.
        job_id: None until SLURM accepts it.
        retry_at_s: when it is submitted again, by the monotonic clock.
        host: host that it runs on; empty while unknown.
        state: state in the queue.
        gone_s: when the queue first reported its end, by the monotonic clock.
        ending: how it ended, if it has.
        left: why it left, if it left by itself.
    """

    index: int
    folder: Path
    backend: "SlurmBackend"
    job_id: str | None = None
    retry_at_s: float = 0.0
    host: str = ""
    state: JobState = field(default_factory=lambda: JobState(waits=True))
    gone_s: float | None = None
    ending: str | None = None
    left: str | None = None
    has_started: bool = False
    events: deque[WorkerEvent] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.tail = EventLogTail(self.folder / EVENTS)

    @property
    def is_waiting(self) -> bool:
        return not self.has_started

    def poll(self) -> list[WorkerEvent]:
        events = []
        while self.events:
            event = self.events.popleft()
            if event.name == STARTED:
                # The launcher must know the host before it gets the other events.
                self.has_started, self.host = True, event.arguments[0]
                break
            events.append(event)
        return events

    def end_text(self) -> str | None:
        return self.ending if not self.events else None

    def leave(self) -> None:
        self.backend.cancel(self)

    def kill(self) -> None:
        if self.job_id is not None:
            self.backend.queue.kill([self.job_id])

    def close(self) -> None:
        self.backend.forget(self)


class SlurmBackend:
    """The backend of a job queue.

    Args:
        request: number and resources of the jobs.
        queue: queue that runs the jobs.
        folders: folders of the jobs.
        plan: plan of the search.
        url: URL of the database; None for the embedded one.
        note: receives messages for the user.
        is_local: whether all jobs run on this machine.
    """

    one_machine = False

    def __init__(  # noqa: PLR0917 - as above
        self,
        request: JobRequest,
        queue: Queue,
        folders: JobFolders,
        plan: SearchPlan,
        url: str | None,
        note: Callable[[str], None],
        *,
        is_local: bool,
    ) -> None:
        self.queue = queue
        self.leave_s = queue.leave_s
        self._request = request
        self._folders = folders
        self._note = note
        threads = max(1, resolve_threads("auto") // request.jobs) if is_local else None
        workers = "auto" if request.has_gpu else 1
        order = Order(plan, url, workers=workers, threads=threads)  # type: ignore[arg-type]
        self._arguments = (dict(decisive_versions()), pickle.dumps(Job(order, request.limit_s)))
        self._placed: dict[int, _Placed] = {}
        self._ended: dict[int, _Placed] = {}
        self._has_submitted = False
        self._jobs_without_epoch = 0
        self._polled_s = float("-inf")
        self._read_s = float("-inf")
        self._counts = (-1, -1)
        self._noted = (-1, -1)
        self._changed_s = 0.0

    def slots(self) -> Sequence[WorkerSlot]:
        """Returns a slot for each job that runs at a time.

        Raises:
            SearchFailedError: too many jobs in a row left before they finished an epoch.
        """
        limit = max(_ROUNDS_WITHOUT_EPOCH * self._request.jobs, _ROUNDS_WITHOUT_EPOCH)
        if self._jobs_without_epoch >= limit:
            raise SearchFailedError(
                f"{self._jobs_without_epoch} jobs in a row reached their time limit before they "
                f"finished an epoch: --hours {self._request.hours:g} is too short; increase it"
            )
        device = "gpu" if self._request.has_gpu else "cpu"
        return [
            WorkerSlot(str(index), device, self._host(index)) for index in range(self._request.jobs)
        ]

    def place(self, slot: WorkerSlot, log: Path) -> PlacedWorker:  # noqa: ARG002 - written by the launcher
        """Submits a job.

        Raises:
            PlacementError: SLURM rejects the first one.
        """
        index = int(slot.key)
        placed = _Placed(index, self._folders.new(), self)
        self._placed[index] = placed
        self._submit(placed)
        previous = self._ended.pop(index, None)
        if previous is not None and previous.left is not None and placed.job_id is not None:
            self._note(f"job {placed.job_id} replaces job {previous.job_id}: {previous.left}")
        return placed

    def wait(self, workers: Sequence[PlacedWorker], timeout_s: float) -> None:
        """Waits for events of the jobs."""
        jobs = [worker for worker in workers if isinstance(worker, _Placed)]
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._poll()
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or any(job.events or job.ending is not None for job in jobs):
                return
            time.sleep(min(left_s, _READ_EVERY_S))

    def cancel(self, placed: _Placed) -> None:
        """Removes a job from the queue, or asks its workers to leave."""
        (placed.folder / CALLED_OFF).write_text("called off\n")
        if placed.job_id is None:
            placed.ending = "was not accepted"
        elif placed.ending is None:
            self.queue.cancel([placed.job_id])
            if not placed.has_started and placed.state.waits:
                placed.ending = "was cancelled"

    def forget(self, placed: _Placed) -> None:
        """Drops a job that has ended."""
        if self._placed.get(placed.index) is placed:
            del self._placed[placed.index]
            self._ended[placed.index] = placed

    def close(self) -> None:
        """Waits up to 5 s for the jobs to end, then cancels the rest."""
        jobs = [*self._ended.values(), *self._placed.values()]
        ids = [job.job_id for job in jobs if job.job_id is not None]
        deadline_s = time.monotonic() + _CLOSE_S
        while ids:
            states = self.queue.states(ids) or {}
            ids = [job_id for job_id in ids if not states.get(job_id, JobState()).is_over]
            if time.monotonic() > deadline_s:
                self.queue.cancel(ids)
                return
            if ids:
                time.sleep(_READ_EVERY_S)

    def _host(self, index: int) -> str:
        placed = self._placed.get(index) or self._ended.get(index)
        return placed.host if placed is not None else ""

    def _submit(self, placed: _Placed) -> None:
        arguments = (str(placed.folder), *self._arguments)
        try:
            placed.job_id = self.queue.submit(placed.folder, placed.index, arguments)
        except RefusedError as error:
            if not self._has_submitted:
                raise PlacementError(
                    f"{self.queue.name} rejected the job: {error}; check --partition, --gpus, "
                    "--hours and --slurm"
                ) from error
            placed.retry_at_s = time.monotonic() + _RETRY_S
            self._note(
                f"{self.queue.name} rejected a job: {error}; retrying every {_RETRY_S:.0f} s"
            )
            return
        self._has_submitted = True
        self._folders.write_id(placed.folder, placed.job_id)
        self._polled_s = min(self._polled_s, time.monotonic() - self.queue.poll_every_s + 1)

    def _poll(self) -> None:
        """Reads the events of the jobs, and queries their states at intervals."""
        now_s = time.monotonic()
        placed = list(self._placed.values())
        if now_s - self._read_s >= max(_READ_EVERY_S, _READ_S_PER_JOB * len(placed)):
            self._read_s = now_s
            for job in placed:
                self._read(job)
        if now_s - self._polled_s >= self.queue.poll_every_s:
            self._polled_s = now_s
            self._update_states(placed)
        for job in placed:
            if job.job_id is None and job.ending is None and now_s >= job.retry_at_s:
                self._submit(job)
            elif job.gone_s is not None and job.ending is None:
                self._on_exit(job, now_s)
        self._note_counts(now_s)

    def _read(self, placed: _Placed) -> None:
        for item in placed.tail.read():
            event = WorkerEvent(*item)
            if event.name == OVER:
                placed.ending = event.arguments[0]
                continue
            placed.events.append(event)
            if event.name in _EPOCH_EVENTS:
                self._jobs_without_epoch = 0
            elif event.name == LEFT:
                placed.left = event.arguments[0]
                self._jobs_without_epoch += 1

    def _update_states(self, placed: Sequence[_Placed]) -> None:
        jobs = {job.job_id: job for job in placed if job.job_id and job.ending is None}
        states = self.queue.states(list(map(str, jobs))) if jobs else None
        for job_id, state in (states or {}).items():
            job = jobs[job_id]
            job.state = state
            if state.is_over and job.gone_s is None:
                job.gone_s = time.monotonic()

    def _on_exit(self, placed: _Placed, now_s: float) -> None:
        """Records the end of a job without a final event, after waiting for slow file systems."""
        wait_s = _LAST_EVENTS_S if self.queue.poll_every_s > 1 else 1.0
        if now_s - (placed.gone_s or now_s) < wait_s:
            return
        last_line = self._last_output_line(placed)
        hint = "" if placed.has_started else _startup_hint(self._folders.home)
        placed.ending = f"{placed.state.text} as job {placed.job_id}{hint}{last_line}"

    def _last_output_line(self, placed: _Placed) -> str:
        for path in self.queue.output(placed.folder, str(placed.job_id)):
            try:
                lines = path.read_text(errors="replace").split("\n")
            except OSError:
                continue
            printed = [line.strip() for line in lines if line.strip()]
            if printed:
                return f": {printed[-1]}"
        return ""

    def _note_counts(self, now_s: float) -> None:
        """Reports the numbers of waiting and running jobs once a change has lasted 5 s."""
        placed = self._placed.values()
        waiting = [job for job in placed if not job.has_started and job.state.waits]
        counts = len(waiting), len(placed) - len(waiting)
        if counts != self._counts:
            self._counts, self._changed_s = counts, now_s
        if counts == self._noted or now_s - self._changed_s < _SETTLED_S:
            return
        if counts[0] or self._noted[0] > 0:
            reasons = dict.fromkeys(job.state.text for job in waiting if job.state.text)
            why = f" ({', '.join(reasons)})" if reasons else ""
            waits = "1 job waits" if counts[0] == 1 else f"{counts[0]} jobs wait"
            runs = "1 runs" if counts[1] == 1 else f"{counts[1]} run"
            self._note(f"{self.queue.name}: {waits}{why}, {runs}")
        self._noted = counts


def _startup_hint(home: Path) -> str:
    return (
        f" before its workers started (check that the nodes have the same Python and state folder, "
        f"{home}, and that {os.environ.get('USER', 'you')} can write there)"
    )
