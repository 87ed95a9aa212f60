"""Where jobs wait and run: SLURM's queue, or submitit's local executor on this machine."""

import io
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from canopy_search.search.errors import PlacementError
from canopy_search.search.workers.slurm.job import margin_s, run_job
from canopy_search.search.workers.slurm.options import JobRequest

_WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD"}
)
_WORKING = frozenset(
    {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"}
)
_COMMAND_S = 60.0
_CONTROLLER = "submitit.local._local"
_NEEDED = ("sbatch", "srun", "squeue", "scancel")


class RefusedError(Exception):
    """A job was not taken; the message is one line."""


@dataclass(frozen=True)
class JobState:
    """What is known of a job in a queue.

    Attributes:
        waits: it has not begun.
        is_over: it is not there any more.
        text: for people: why it waits, or how it ended.
    """

    waits: bool = False
    is_over: bool = False
    text: str = ""


class Queue(Protocol):
    """Takes jobs."""

    name: str
    """For people."""

    word: str
    """For the names of files."""

    look_every_s: float
    """Seconds between two looks at the states of jobs."""

    leave_s: float
    """Jobs that are cancelled have as long as this to leave."""

    def submit(self, folder: Path, at: int, arguments: Sequence[Any]) -> str:
        """Submits `run_job` and returns the job's id.

        Args:
            folder: of the job.
            at: which of the jobs that run at a time, from 0.
            arguments: of `run_job`.

        Raises:
            RefusedError: it was not taken.
        """

    def states(self, ids: Sequence[str]) -> dict[str, JobState] | None:
        """Returns the states of jobs; None if that cannot be known now."""

    def cancel(self, ids: Sequence[str]) -> None:
        """Takes jobs out of the queue, and tells those that run to leave."""

    def kill(self, ids: Sequence[str]) -> None:
        """Ends jobs, whatever they are at."""

    def output(self, folder: Path, job_id: str) -> list[Path]:
        """Returns the files with what a job has printed, errors first."""


class SlurmQueue:
    """SLURM, by submitit and its own commands.

    Its accounting (``sacct``, which submitit asks) need not be there: ``squeue`` knows the state of
    a job for some minutes after its end.

    Args:
        request: what each job asks for.
        name: of the jobs.

    Raises:
        PlacementError: there is no SLURM.
    """

    name = "SLURM"
    word = "slurm"
    look_every_s = 10.0
    leave_s = 20.0

    def __init__(self, request: JobRequest, name: str) -> None:
        check_slurm()
        self._request = request
        self._parameters = request.parameters(name, margin_s(request.limit_s) / 2)

    def submit(self, folder: Path, at: int, arguments: Sequence[Any]) -> str:  # noqa: ARG002
        """Submits a job with ``sbatch``."""
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        executor = submitit.SlurmExecutor(folder)
        executor.update_parameters(**self._parameters)
        try:
            with redirect_stderr(io.StringIO()):  # submitit prints what the error says, too
                return str(executor.submit(run_job, *arguments).job_id)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise RefusedError(one_line(str(error))) from error

    def states(self, ids: Sequence[str]) -> dict[str, JobState] | None:
        """Asks ``squeue`` once for all."""
        answer = _run(
            "squeue", "--noheader", "--states=all", "--format=%i|%T|%r", f"--jobs={','.join(ids)}"
        )
        # When it has forgotten all of them, it calls that an error.
        if answer.returncode and "Invalid job id" not in answer.stderr:
            return None
        found = dict.fromkeys(ids, JobState(is_over=True, text="is not in SLURM's queue any more"))
        for line in answer.stdout.splitlines():
            job_id, state, reason = (each.strip() for each in [*line.split("|", 2), "", ""][:3])
            if job_id in found:
                found[job_id] = _slurm_state(state, reason)
        return found

    def cancel(self, ids: Sequence[str]) -> None:
        """Has ``scancel`` tell all processes; it kills them some time after."""
        if ids:
            _run("scancel", *ids)

    def kill(self, ids: Sequence[str]) -> None:
        """Has ``scancel`` kill them."""
        if ids:
            _run("scancel", "--signal=KILL", "--full", *ids)

    def output(self, folder: Path, job_id: str) -> list[Path]:
        """Returns what SLURM and submitit have written."""
        return _output(folder, job_id)


class LocalQueue:
    """submitit's local executor: each job is a process of this machine that ends at its limit.

    Args:
        request: what each job asks for.
    """

    name = "submitit's local executor"
    word = "local"
    look_every_s = 0.5
    leave_s = 8.0

    def __init__(self, request: JobRequest) -> None:
        self._request = request
        self._jobs: dict[str, Any] = {}

    def submit(self, folder: Path, at: int, arguments: Sequence[Any]) -> str:
        """Begins the process that watches a job."""
        import submitit

        executor = submitit.LocalExecutor(folder)
        executor.update_parameters(
            timeout_min=self._request.limit_s / 60,
            signal_delay_s=round(margin_s(self._request.limit_s) / 2),
            gpus_per_node=int(self._request.has_gpu),
            visible_gpus=(at,) if self._request.has_gpu else (),
        )
        try:
            with _deaf_to_ctrl_c():
                job = executor.submit(run_job, *arguments)
        except OSError as error:
            raise RefusedError(one_line(str(error))) from error
        self._jobs[job.job_id] = job
        return str(job.job_id)

    def states(self, ids: Sequence[str]) -> dict[str, JobState] | None:
        """Looks at the processes."""
        return {
            each: JobState(is_over=is_over, text="ended" if is_over else "")
            for each in ids
            for is_over in [self._is_over(each)]
        }

    def cancel(self, ids: Sequence[str]) -> None:
        """Tells them to leave."""
        for each in ids:
            with suppress(ProcessLookupError):
                os.kill(int(each), signal.SIGTERM)

    def kill(self, ids: Sequence[str]) -> None:
        """Kills all processes of the jobs."""
        for each in ids:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(each))
                for one in [process, *process.children(recursive=True)]:
                    with suppress(psutil.NoSuchProcess):
                        one.kill()

    def output(self, folder: Path, job_id: str) -> list[Path]:
        """Returns what the processes have written."""
        return _output(folder, job_id)

    def _is_over(self, job_id: str) -> bool:
        if job_id in self._jobs:
            return bool(self._jobs[job_id].done())
        try:  # one of an earlier search
            return _CONTROLLER not in psutil.Process(int(job_id)).cmdline()
        except psutil.Error:
            return True


def check_slurm() -> None:
    """Raises PlacementError if SLURM's commands are not there."""
    missing = [command for command in _NEEDED if shutil.which(command) is None]
    if missing:
        raise PlacementError(
            f"no SLURM here: {', '.join(missing)} not found on PATH; run it where SLURM's "
            "commands are, or try the same with: --on slurm-local"
        )


def one_line(text: str) -> str:
    """Returns a message of several lines as one, without the name of who says it in each."""
    lines = (re.sub(r"^\w+: (error: )?", "", line).strip() for line in text.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line)) or "no reason given"


def _slurm_state(state: str, reason: str) -> JobState:
    word = state.split(maxsplit=1)[0] if state else ""
    said = f" ({reason})" if reason not in {"", "None", "NonZeroExitCode"} else ""
    if word in _WAITING:
        return JobState(waits=True, text=reason)
    if word in _WORKING:
        return JobState()
    return JobState(is_over=True, text=f"ended with SLURM's state {word}{said}")


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _output(folder: Path, job_id: str) -> list[Path]:
    from submitit.core.utils import JobPaths

    paths = JobPaths(folder, job_id)
    return [Path(paths.stderr), Path(paths.stdout)]


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Lets what is begun now not hear of Ctrl-C, which is the starter's and waits meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
