"""Workers as SLURM jobs, which leave before their time limit and are replaced."""

import os
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from canopy_search.dashboards.formatting.values import counted
from canopy_search.search.errors import PlacementError
from canopy_search.search.events import Ending, WorkerEnded
from canopy_search.search.study.plan import SearchPlan
from canopy_search.search.workers.backend import Job, JobEvent, WorkerSlot
from canopy_search.search.workers.command import WorkerCommand
from canopy_search.search.workers.logs import last_line
from canopy_search.search.workers.remote_search import (
    DATABASE_REMEDY,
    RemoteSearch,
    worker_ended,
)
from canopy_search.search.workers.slurm.folders import JobFolders
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

_LOOK_EVERY_S = 0.2
_SETTLED_S = 5.0
_RETRY_S = 30.0
_CLOSE_S = 5.0
_ENDINGS = (
    Ending.FAILED,
    Ending.DONE,
    Ending.LEFT,
    Ending.SICK,
    Ending.UNFIT,
    Ending.DIED,
)
"""Of several workers of a job, the ending that comes first here is that of the job."""


@dataclass(frozen=True)
class OnSlurm:
    """A search in SLURM jobs.

    Attributes:
        request: number and resources of the jobs.
        is_local: whether submitit's local executor runs them on this machine instead.
    """

    request: JobRequest
    is_local: bool = False

    def open(self, plan: SearchPlan, note: Callable[[str], None]) -> "SlurmBackend":
        """Checks SLURM, and cancels jobs left by an earlier search; submits none yet.

        Raises:
            PlacementError: submitit or SLURM is not installed, or the nodes cannot reach the
                database.
        """
        check_submitit()
        self._check_device(plan.config.training.device)
        search = RemoteSearch(plan, note)
        folders = JobFolders(plan.workspace.home, plan.study)
        tasks = plan.config.search.slots_per_gpu if self.request.has_gpu else 1
        queue: Queue
        if self.is_local:
            queue = LocalQueue(self.request, tasks)
        else:
            queue = SlurmQueue(self.request, f"canopy-{folders.name}", tasks)
            if is_on_this_machine(plan.workspace.url):
                raise PlacementError(
                    f"{search.unreachable()} from the SLURM nodes; {DATABASE_REMEDY}"
                )
        folder = folders.create(queue, note)
        note(self._describe(queue))
        return SlurmBackend(self.request, queue, folder, search)

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
        resources = "one GPU" if request.has_gpu else "one worker on a CPU"
        where = f" in partition {request.partition}" if request.partition else ""
        text = (
            f"{queue.name}: {counted(request.jobs, 'job')} at a time{where}, each with "
            f"{resources} for {request.hours:g} h"
        )
        if self.is_local and (request.partition or request.options):
            text += "; --partition and --slurm have no effect"
        return text


def check_submitit() -> None:
    """Raises PlacementError if submitit is not installed."""
    if find_spec("submitit") is None:
        raise PlacementError("--on slurm needs submitit: pip install 'canopy-search[slurm]'")


@dataclass
class _Job:
    """A job and its known state.

    Attributes:
        index: number of its slot, from 0.
        command: command of its first worker.
        queue: the queue that runs it.
        job_id: None until the queue accepts it.
        retry_at_s: when it is submitted again, by the monotonic clock.
        state: state in the queue.
        over_s: when the queue first reported its end, by the monotonic clock.
        ended: how it ended, if it has.
    """

    index: int
    command: WorkerCommand
    queue: Queue
    job_id: str | None = None
    retry_at_s: float = 0.0
    state: JobState = field(default_factory=lambda: JobState(waits=True))
    over_s: float | None = None
    ended: WorkerEnded | None = None

    @property
    def worker_ids(self) -> Sequence[int]:
        placed = self.command.placed
        return [(placed["worker_id"] or 0) + task for task in range(placed["workers"] or 1)]

    @property
    def is_waiting(self) -> bool:
        return self.state.waits

    def cancel(self) -> None:
        if self.job_id is not None:
            self.queue.cancel([self.job_id])
        if self.state.waits:
            self.ended = WorkerEnded(Ending.LEFT, "it was cancelled")

    def kill(self) -> None:
        if self.job_id is not None:
            self.queue.kill([self.job_id])


class SlurmBackend:
    """The backend of a job queue.

    Args:
        request: number and resources of the jobs.
        queue: queue that runs the jobs.
        folder: folder of the jobs.
        search: the search.
    """

    one_machine = False

    def __init__(
        self, request: JobRequest, queue: Queue, folder: Path, search: RemoteSearch
    ) -> None:
        self.leave_s = queue.leave_s
        self._request = request
        self._queue = queue
        self._folder = folder
        self._search = search
        self._jobs: dict[int, _Job] = {}
        self._last: dict[int, _Job] = {}
        self._has_submitted = False
        self._polled_s = float("-inf")
        self._counts = (-1, -1)
        self._noted = (-1, -1)
        self._changed_s = 0.0

    def slots(self) -> Sequence[WorkerSlot]:
        """Returns a slot for each job that runs at a time."""
        device = "gpu" if self._request.has_gpu else "cpu"
        hosts = {index: job.state.host for index, job in {**self._last, **self._jobs}.items()}
        indices = range(self._request.jobs)
        return [WorkerSlot(str(index), device, hosts.get(index, "")) for index in indices]

    def submit(self, slot: WorkerSlot, log: Path) -> Job:  # noqa: ARG002 - submitit writes its log
        """Submits a job.

        Raises:
            PlacementError: the queue rejects the first one.
        """
        request = self._request
        workers = self._search.plan.config.search.slots_per_gpu if request.has_gpu else 1
        is_shared = self._queue.word == LocalQueue.word
        threads = max(1, resolve_threads("auto") // request.jobs) if is_shared else None
        index = int(slot.key)
        command = self._search.command(threads=threads, number=index + 1, workers=workers)
        job = _Job(index, command, self._queue)
        self._try(job)
        self._jobs[job.index] = job
        previous = self._last.pop(job.index, None)
        ended = previous and previous.ended
        if previous and ended and ended.ending is Ending.LEFT and job.job_id is not None:
            self._search.note(f"job {job.job_id} replaces job {previous.job_id}: {ended.reason}")
        return job

    def events(self, timeout_s: float) -> Sequence[JobEvent]:
        """Waits for the end of a job."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._poll()
            events = [JobEvent(job, job.ended) for job in self._jobs.values() if job.ended]
            left_s = deadline_s - time.monotonic()
            if events or left_s <= 0:
                break
            time.sleep(min(left_s, _LOOK_EVERY_S))
        self._last |= {index: job for index, job in self._jobs.items() if job.ended}
        self._jobs = {index: job for index, job in self._jobs.items() if not job.ended}
        return events

    def close(self) -> None:
        """Waits up to 5 s for the jobs to end, then cancels the rest."""
        jobs = [*self._last.values(), *self._jobs.values()]
        ids = [job.job_id for job in jobs if job.job_id is not None]
        deadline_s = time.monotonic() + _CLOSE_S
        while ids:
            states = self._queue.states(ids) or {}
            ids = [job_id for job_id in ids if not states.get(job_id, JobState()).is_over]
            if time.monotonic() > deadline_s:
                self._queue.cancel(ids)
                return
            if ids:
                time.sleep(_LOOK_EVERY_S)

    def _try(self, job: _Job) -> None:
        """Submits a job; if it is rejected, it is submitted again later."""
        try:
            job.job_id = self._queue.submit(self._folder, job.index, job.command)
        except RefusedError as error:
            if not self._has_submitted:
                raise PlacementError(
                    f"{self._queue.name} rejected the job: {error}; check --partition, --gpus, "
                    "--hours and --slurm"
                ) from error
            job.retry_at_s = time.monotonic() + _RETRY_S
            self._search.note(
                f"{self._queue.name} rejected a job: {error}; retrying every {_RETRY_S:.0f} s"
            )
            return
        self._has_submitted = True
        self._polled_s = min(self._polled_s, time.monotonic() - self._queue.poll_every_s + 1)

    def _poll(self) -> None:
        """Looks for results of jobs, and queries their states at intervals."""
        now_s = time.monotonic()
        # A network file system may cache that a file does not exist, but not for a new listing.
        names = {path.name for path in self._folder.iterdir()}
        if now_s - self._polled_s >= self._queue.poll_every_s:
            self._polled_s = now_s
            self._update_states(now_s)
        for job in self._jobs.values():
            if job.ended is not None:
                continue
            if job.job_id is None:
                if now_s >= job.retry_at_s:
                    self._try(job)
                continue
            results = [f"{job.job_id}_{task}_result.pkl" for task in range(len(job.worker_ids))]
            is_lost = job.over_s is not None and now_s - job.over_s > self._queue.results_s
            if is_lost or names.issuperset(results):
                ends = [self._end(job, name, names) for name in results]
                job.ended = min(ends, key=lambda ended: _ENDINGS.index(ended.ending))
        self._note_counts(now_s)

    def _update_states(self, now_s: float) -> None:
        jobs = {job.job_id: job for job in self._jobs.values() if job.job_id and not job.ended}
        states = self._queue.states(list(jobs)) if jobs else None
        for job_id, state in (states or {}).items():
            job = jobs[job_id]
            job.state = state
            if state.is_over and job.over_s is None:
                job.over_s = now_s

    def _end(self, job: _Job, result: str, names: Set[str]) -> WorkerEnded:
        """Returns how a worker of a job ended.

        Args:
            job: the job, which has ended.
            result: name of the file with the worker's result.
            names: names of all files of the jobs.
        """
        from submitit.core.utils import pickle_load

        if result in names:
            outcome, value = pickle_load(self._folder / result)
            if outcome == "success":
                return worker_ended(value)
            return WorkerEnded(Ending.DIED, f"died of {value.strip().splitlines()[-1]}")
        logs = [f"{job.job_id}_0_log.{kind}" for kind in ("err", "out")]
        hint = "" if names & set(logs) else _startup_hint(self._search.plan.workspace.home)
        printed = next(filter(None, (last_line(self._folder / name) for name in logs)), "")
        printed = f": {printed}" if printed else ""
        return WorkerEnded(Ending.DIED, f"{job.state.text} as job {job.job_id}{hint}{printed}")

    def _note_counts(self, now_s: float) -> None:
        """Reports the numbers of waiting and running jobs once a change has lasted 5 s."""
        waiting = [job for job in self._jobs.values() if job.is_waiting]
        counts = len(waiting), len(self._jobs) - len(waiting)
        if counts != self._counts:
            self._counts, self._changed_s = counts, now_s
        if counts == self._noted or now_s - self._changed_s < _SETTLED_S:
            return
        if counts[0] or self._noted[0] > 0:
            reasons = dict.fromkeys(job.state.text for job in waiting if job.state.text)
            why = f" ({', '.join(reasons)})" if reasons else ""
            waits = "1 job waits" if counts[0] == 1 else f"{counts[0]} jobs wait"
            runs = "1 runs" if counts[1] == 1 else f"{counts[1]} run"
            self._search.note(f"{self._queue.name}: {waits}{why}, {runs}")
        self._noted = counts


def _startup_hint(home: Path) -> str:
    return (
        f" before it wrote anything (check that the nodes have the same Python and state folder, "
        f"{home}, and that {os.environ.get('USER', 'you')} can write there)"
    )
