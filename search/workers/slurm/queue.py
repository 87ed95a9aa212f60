"""Job queues: SLURM's queue, or submitit's local executor on this machine."""

import io
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from canopy_search.search.errors import PlacementError
from canopy_search.search.workers import command as command_module
from canopy_search.search.workers.command import WorkerCommand
from canopy_search.search.workers.slurm import job as job_module
from canopy_search.search.workers.slurm.job import margin_s
from canopy_search.search.workers.slurm.options import JobRequest

_WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD"}
)
_WORKING = frozenset(
    {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"}
)
_COMMAND_S = 60.0
_CONTROLLER = "submitit.local._local"
_COMMANDS = ("sbatch", "srun", "squeue", "scancel")


class RefusedError(Exception):
    """The queue rejected a job; the message is one line."""


@dataclass(frozen=True)
class JobState:
    """State of a job in a queue.

    Attributes:
        waits: whether it has not started.
        is_over: whether it has ended.
        text: to display: why it waits, or how it ended.
        host: machine that it runs on; empty while unknown.
    """

    waits: bool = False
    is_over: bool = False
    text: str = ""
    host: str = ""


class Queue(Protocol):
    """Submits, cancels and monitors jobs."""

    name: str
    """Name to display."""

    word: str
    """Name to use in file names."""

    poll_every_s: float
    """Seconds between two queries of the job states."""

    leave_s: float
    """Seconds that cancelled jobs have to leave."""

    results_s: float
    """The result of a job can arrive on this machine up to this long after its end, in seconds."""

    def submit(self, folder: Path, index: int, command: WorkerCommand) -> str:
        """Submits `run_job` and returns the job's id.

        Args:
            folder: folder of the search's jobs.
            index: number of the job's slot, from 0.
            command: the worker; each task of the job runs one.

        Raises:
            RefusedError: the queue rejected the job.
        """

    def states(self, ids: Sequence[str]) -> dict[str, JobState] | None:
        """Returns the states of jobs; None if they are unknown now."""

    def cancel(self, ids: Sequence[str]) -> None:
        """Removes waiting jobs from the queue, and asks running ones to leave."""

    def kill(self, ids: Sequence[str]) -> None:
        """Kills jobs."""


class SlurmQueue:
    """SLURM, through submitit and SLURM's own commands.

    SLURM's accounting (``sacct``, which submitit uses) is not required: ``squeue`` keeps the state
    of a job for some minutes after its end.

    Args:
        request: the resources of each job.
        name: name of the jobs.
        tasks: number of workers of each job.

    Raises:
        PlacementError: SLURM is not installed.
    """

    name = "SLURM"
    word = "slurm"
    poll_every_s = 10.0
    leave_s = 20.0
    results_s = 10.0

    def __init__(self, request: JobRequest, name: str, tasks: int) -> None:
        check_slurm()
        self._parameters = request.parameters(name, tasks, margin_s(request.limit_s))

    def submit(self, folder: Path, index: int, command: WorkerCommand) -> str:  # noqa: ARG002 - LocalQueue's
        """Submits a job with ``sbatch``."""
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        executor = submitit.SlurmExecutor(folder)
        executor.update_parameters(**self._parameters)
        try:
            with redirect_stderr(io.StringIO()):  # submitit also prints the error
                return _submit(executor, command)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise RefusedError(one_line(str(error))) from error

    def states(self, ids: Sequence[str]) -> dict[str, JobState] | None:
        """Queries all states with one ``squeue`` call."""
        answer = _run(
            "squeue",
            "--noheader",
            "--states=all",
            "--format=%i|%T|%N|%r",
            f"--jobs={','.join(ids)}",
        )
        # squeue reports an error if it has dropped all of these jobs.
        if answer.returncode and "Invalid job id" not in answer.stderr:
            return None
        found = dict.fromkeys(ids, JobState(is_over=True, text="is no longer in SLURM's queue"))
        for line in answer.stdout.splitlines():
            job_id, *parts = (part.strip() for part in [*line.split("|", 3), "", "", ""][:4])
            if job_id in found:
                found[job_id] = _slurm_state(*parts)
        return found

    def cancel(self, ids: Sequence[str]) -> None:
        """Calls ``scancel``, which signals all processes and kills them some time later."""
        if ids:
            _run("scancel", *ids)

    def kill(self, ids: Sequence[str]) -> None:
        """Calls ``scancel`` to kill all processes at once."""
        if ids:
            _run("scancel", "--signal=KILL", "--full", *ids)


class LocalQueue:
    """submitit's local executor: each job is a process on this machine that ends at its limit.

    Args:
        request: the resources of each job.
        tasks: number of workers of each job.
    """

    name = "submitit's local executor"
    word = "local"
    poll_every_s = 0.5
    leave_s = 8.0
    results_s = 1.0

    def __init__(self, request: JobRequest, tasks: int) -> None:
        self._request = request
        self._tasks = tasks

    def submit(self, folder: Path, index: int, command: WorkerCommand) -> str:
        """Starts the process that runs and monitors a job."""
        import submitit

        executor = submitit.LocalExecutor(folder)
        executor.update_parameters(
            timeout_min=self._request.limit_s / 60,
            signal_delay_s=round(margin_s(self._request.limit_s)),
            tasks_per_node=self._tasks,
            gpus_per_node=int(self._request.has_gpu),
            visible_gpus=(index,) if self._request.has_gpu else (),
        )
        try:
            with _ctrl_c_blocked():
                job_id = _submit(executor, command)
        except OSError as error:
            raise RefusedError(one_line(str(error))) from error
        return job_id

    def states(self, ids: Sequence[str]) -> dict[str, JobState] | None:
        """Checks the processes."""
        host = socket.gethostname()
        return {
            job_id: JobState(host=host)
            if _is_running(job_id)
            else JobState(is_over=True, text="ended", host=host)
            for job_id in ids
        }

    def cancel(self, ids: Sequence[str]) -> None:
        """Sends SIGTERM."""
        for job_id in ids:
            with suppress(ProcessLookupError):
                os.kill(int(job_id), signal.SIGTERM)

    def kill(self, ids: Sequence[str]) -> None:
        """Kills all processes of the jobs."""
        for job_id in ids:
            with suppress(psutil.NoSuchProcess):
                parent = psutil.Process(int(job_id))
                for process in [parent, *parent.children(recursive=True)]:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()


def _submit(executor: Any, command: WorkerCommand) -> str:
    import cloudpickle

    for module in (command_module, job_module):
        cloudpickle.register_pickle_by_value(module)
    return str(executor.submit(job_module.run_job, command).job_id)


def _is_running(job_id: str) -> bool:
    """Whether the process of a local job still monitors it."""
    try:
        process = psutil.Process(int(job_id))
        return process.status() != psutil.STATUS_ZOMBIE and _CONTROLLER in process.cmdline()
    except psutil.Error:
        return False


def check_slurm() -> None:
    """Raises PlacementError if SLURM's commands are not installed."""
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    if missing:
        raise PlacementError(
            f"SLURM is not installed: {', '.join(missing)} not found on PATH; run the search on a "
            "machine with SLURM's commands, or try it with: --on slurm-local"
        )


def one_line(text: str) -> str:
    """Joins the lines of a message, without the name of the command in front of each."""
    lines = (re.sub(r"^\w+: (error: )?", "", line).strip() for line in text.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line)) or "no reason given"


def _slurm_state(state: str, host: str, reason: str) -> JobState:
    word = state.split(maxsplit=1)[0] if state else ""
    why = f" ({reason})" if reason not in {"", "None", "NonZeroExitCode"} else ""
    if word in _WAITING:
        return JobState(waits=True, text=reason)
    if word in _WORKING:
        return JobState(host=host)
    return JobState(is_over=True, text=f"ended with SLURM state {word}{why}", host=host)


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Blocks Ctrl-C, so that a process started now does not get it; this one gets it later."""
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
