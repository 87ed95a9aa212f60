"""Workers as jobs of SLURM, which leave before their time limit and are replaced."""

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
from canopy_search.search.workers.slurm.job import BEGAN, CALLED_OFF, EVENTS, OVER, Job
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
_TRY_AGAIN_S = 30.0
_LAST_WORDS_S = 10.0
"""What a job has told last may reach this machine as long after its end."""
_FRUITLESS_ROUNDS = 3
_FRUITFUL = frozenset({"epoch_done", "trial_ended"})
_CLOSE_S = 5.0


@dataclass(frozen=True)
class OnSlurm:
    """A search in jobs of SLURM.

    Attributes:
        request: what each job asks for.
        is_local: whether submitit's local executor runs them on this machine instead.
    """

    request: JobRequest
    is_local: bool = False

    def open(
        self, plan: SearchPlan, url: str | None, note: Callable[[str], None]
    ) -> "SlurmBackend":
        """Looks for SLURM, and for jobs that an earlier search has left; submits none yet.

        Raises:
            PlacementError: submitit is not installed, there is no SLURM, or its nodes cannot reach
                the database.
        """
        check_submitit()
        self._check_device(plan.config.training.device)
        queue: Queue
        folders = JobFolders(plan.home, plan.study)
        if self.is_local:
            queue = LocalQueue(self.request)
        else:
            queue = SlurmQueue(self.request, f"canopy-{folders.name}")
            if is_on_this_machine(url):
                what = "the embedded Postgres" if url is None else "the database of DATABASE_URL"
                raise PlacementError(
                    f"{what} cannot be reached from the nodes of SLURM; set DATABASE_URL to a "
                    "Postgres server that all machines reach "
                    "(postgresql://user:password@host/database)"
                )
        folders.begin(queue, note)
        note(self._describe(queue))
        return SlurmBackend(self.request, queue, folders, plan, url, note, is_local=self.is_local)

    def _check_device(self, device: str) -> None:
        if ":" in device:
            raise PlacementError(
                f"training.device: {device} is a GPU of one machine, and SLURM gives each job its "
                "own; set it to cuda or auto"
            )
        if device == "cpu" and self.request.has_gpu:
            raise PlacementError(
                "training.device: cpu leaves the GPUs of --gpus idle; say --workers N instead"
            )

    def _describe(self, queue: Queue) -> str:
        request = self.request
        jobs = "1 job" if request.jobs == 1 else f"{request.jobs} jobs"
        each = "a GPU" if request.has_gpu else "one worker on a CPU"
        where = f" in partition {request.partition}" if request.partition else ""
        text = f"{queue.name}: {jobs} at a time{where}, each with {each} for {request.hours:g} h"
        if self.is_local and (request.partition or request.options):
            text += "; --partition and --slurm mean nothing here"
        return text


def check_submitit() -> None:
    """Raises PlacementError if submitit is not installed."""
    if find_spec("submitit") is None:
        raise PlacementError("--on slurm needs submitit: pip install 'canopy-search[slurm]'")


@dataclass
class _Placed:
    """A job, as far as has been heard of it.

    Attributes:
        at: which of the jobs that run at a time, from 0.
        folder: of the job.
        backend: that placed it.
        job_id: None while SLURM has not taken it.
        again_s: when it is offered to SLURM again, by the monotonic clock.
        host: that it runs on; empty while that is not known.
        state: in the queue.
        gone_s: since when the queue says that it is over, by the monotonic clock.
        how: it ended, if it has.
        left: why it left, if it did by itself.
    """

    at: int
    folder: Path
    backend: "SlurmBackend"
    job_id: str | None = None
    again_s: float = 0.0
    host: str = ""
    state: JobState = field(default_factory=lambda: JobState(waits=True))
    gone_s: float | None = None
    how: str | None = None
    left: str | None = None
    has_begun: bool = False
    news: deque[WorkerEvent] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.tail = EventLogTail(self.folder / EVENTS)

    @property
    def is_waiting(self) -> bool:
        return not self.has_begun

    def poll(self) -> list[WorkerEvent]:
        heard = []
        while self.news:
            event = self.news.popleft()
            if event.name == BEGAN:
                # The launcher is to know the host before it hears the rest.
                self.has_begun, self.host = True, event.arguments[0]
                break
            heard.append(event)
        return heard

    def end_text(self) -> str | None:
        return self.how if not self.news else None

    def leave(self) -> None:
        self.backend.call_off(self)

    def kill(self) -> None:
        if self.job_id is not None:
            self.backend.queue.kill([self.job_id])

    def close(self) -> None:
        self.backend.forget(self)


class SlurmBackend:
    """The engine of a queue of jobs.

    Args:
        request: what each job asks for.
        queue: takes the jobs.
        folders: the jobs' folders.
        plan: of the search.
        url: of the database; None for the embedded one.
        note: is told what a person should know.
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
        self._fruitless = 0
        self._looked_s = float("-inf")
        self._read_s = float("-inf")
        self._counts = (-1, -1)
        self._noted = (-1, -1)
        self._changed_s = 0.0

    def slots(self) -> Sequence[WorkerSlot]:
        """Returns a post for each job that is to run at a time.

        Raises:
            SearchFailedError: job after job left before an epoch was done.
        """
        most = max(_FRUITLESS_ROUNDS * self._request.jobs, _FRUITLESS_ROUNDS)
        if self._fruitless >= most:
            raise SearchFailedError(
                f"{self._fruitless} jobs one after the other came to their limit before an epoch "
                f"was done: --hours {self._request.hours:g} is too short for it"
            )
        device = "gpu" if self._request.has_gpu else "cpu"
        return [WorkerSlot(str(at), device, self._host(at)) for at in range(self._request.jobs)]

    def place(self, slot: WorkerSlot, log: Path) -> PlacedWorker:  # noqa: ARG002 - written by the launcher
        """Submits a job.

        Raises:
            PlacementError: SLURM does not take the first one.
        """
        at = int(slot.key)
        placed = _Placed(at, self._folders.new(), self)
        self._placed[at] = placed
        self._submit(placed)
        before = self._ended.pop(at, None)
        if before is not None and before.left is not None and placed.job_id is not None:
            self._note(f"job {placed.job_id} comes after job {before.job_id}: {before.left}")
        return placed

    def wait(self, workers: Sequence[PlacedWorker], timeout_s: float) -> None:
        """Waits for news of the jobs."""
        mine = [each for each in workers if isinstance(each, _Placed)]
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._look()
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or any(each.news or each.how is not None for each in mine):
                return
            time.sleep(min(left_s, _READ_EVERY_S))

    def call_off(self, placed: _Placed) -> None:
        """Takes a job out of the queue, or has its workers leave."""
        (placed.folder / CALLED_OFF).write_text("called off\n")
        if placed.job_id is None:
            placed.how = "was not taken"
        elif placed.how is None:
            self.queue.cancel([placed.job_id])
            if not placed.has_begun and placed.state.waits:
                placed.how = "was cancelled"

    def forget(self, placed: _Placed) -> None:
        """Lets go of a job that has ended."""
        if self._placed.get(placed.at) is placed:
            del self._placed[placed.at]
            self._ended[placed.at] = placed

    def close(self) -> None:
        """Cancels what is left; returns when nothing is, if that does not take long."""
        left = [each for each in self._ended.values() if each.job_id is not None]
        left += [each for each in self._placed.values() if each.job_id is not None]
        deadline_s = time.monotonic() + _CLOSE_S
        while left:
            states = self.queue.states([str(each.job_id) for each in left]) or {}
            left = [e for e in left if not states.get(str(e.job_id), JobState()).is_over]
            if time.monotonic() > deadline_s:
                self.queue.cancel([str(each.job_id) for each in left])
                return
            if left:
                time.sleep(_READ_EVERY_S)

    def _host(self, at: int) -> str:
        placed = self._placed.get(at) or self._ended.get(at)
        return placed.host if placed is not None else ""

    def _submit(self, placed: _Placed) -> None:
        arguments = (str(placed.folder), *self._arguments)
        try:
            placed.job_id = self.queue.submit(placed.folder, placed.at, arguments)
        except RefusedError as error:
            if not self._has_submitted:
                raise PlacementError(
                    f"{self.queue.name} does not take the job: {error}; check --partition, --gpus, "
                    "--hours and --slurm"
                ) from error
            placed.again_s = time.monotonic() + _TRY_AGAIN_S
            self._note(
                f"{self.queue.name} takes no job now: {error}; it is asked again every "
                f"{_TRY_AGAIN_S:.0f} s"
            )
            return
        self._has_submitted = True
        self._folders.write_id(placed.folder, placed.job_id)
        self._looked_s = min(self._looked_s, time.monotonic() - self.queue.look_every_s + 1)

    def _look(self) -> None:
        """Reads what jobs have told, and now and then asks for their states."""
        now_s = time.monotonic()
        placed = list(self._placed.values())
        if now_s - self._read_s >= max(_READ_EVERY_S, _READ_S_PER_JOB * len(placed)):
            self._read_s = now_s
            for each in placed:
                self._read(each)
        if now_s - self._looked_s >= self.queue.look_every_s:
            self._looked_s = now_s
            self._ask_states(placed)
        for each in placed:
            if each.job_id is None and each.how is None and now_s >= each.again_s:
                self._submit(each)
            elif each.gone_s is not None and each.how is None:
                self._on_exit(each, now_s)
        self._note_counts(now_s)

    def _read(self, placed: _Placed) -> None:
        for item in placed.tail.read():
            event = WorkerEvent(*item)
            if event.name == OVER:
                placed.how = event.arguments[0]
                continue
            placed.news.append(event)
            if event.name in _FRUITFUL:
                self._fruitless = 0
            elif event.name == LEFT:
                placed.left = event.arguments[0]
                self._fruitless += 1

    def _ask_states(self, placed: Sequence[_Placed]) -> None:
        asked = {each.job_id: each for each in placed if each.job_id and each.how is None}
        states = self.queue.states(list(map(str, asked))) if asked else None
        for job_id, state in (states or {}).items():
            each = asked[job_id]
            each.state = state
            if state.is_over and each.gone_s is None:
                each.gone_s = time.monotonic()

    def _on_exit(self, placed: _Placed, now_s: float) -> None:
        """A job is over that has not said so; it may have, and only the file system is late."""
        wait_s = _LAST_WORDS_S if self.queue.look_every_s > 1 else 1.0
        if now_s - (placed.gone_s or now_s) < wait_s:
            return
        words = self._last_words(placed)
        begun = "" if placed.has_begun else _before_it_began(self._folders.home)
        placed.how = f"{placed.state.text} as job {placed.job_id}{begun}{words}"

    def _last_words(self, placed: _Placed) -> str:
        for path in self.queue.output(placed.folder, str(placed.job_id)):
            try:
                lines = path.read_text(errors="replace").split("\n")
            except OSError:
                continue
            said = [line.strip() for line in lines if line.strip()]
            if said:
                return f": {said[-1]}"
        return ""

    def _note_counts(self, now_s: float) -> None:
        """Says how many jobs wait and work, when that has changed and then stayed for a while."""
        placed = self._placed.values()
        waiting = [each for each in placed if not each.has_begun and each.state.waits]
        counts = len(waiting), len(placed) - len(waiting)
        if counts != self._counts:
            self._counts, self._changed_s = counts, now_s
        if counts == self._noted or now_s - self._changed_s < _SETTLED_S:
            return
        if counts[0] or self._noted[0] > 0:
            reasons = dict.fromkeys(each.state.text for each in waiting if each.state.text)
            why = f" ({', '.join(reasons)})" if reasons else ""
            waits = "1 job waits" if counts[0] == 1 else f"{counts[0]} jobs wait"
            works = "1 works" if counts[1] == 1 else f"{counts[1]} work"
            self._note(f"{self.queue.name}: {waits}{why}, {works}")
        self._noted = counts


def _before_it_began(home: Path) -> str:
    return (
        f" before it could tell anything (have the nodes the same Python and state folder, {home}, "
        f"and may {os.environ.get('USER', 'you')} write there?)"
    )
