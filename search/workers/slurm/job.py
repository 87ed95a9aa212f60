"""Main function of a job: runs a worker until the study or the job's time ends.

submitit sends the source of this module with the job.
"""

import os
import signal
from dataclasses import replace
from types import FrameType

from canopy_search.search.workers.command import (
    ASKED_TO_LEAVE,
    DONE,
    INTERRUPTED,
    TIME_IS_UP,
    CanopyWorker,
    CommandEnd,
    WorkerCommand,
)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHORTEST_MARGIN_S = 10.0
_LONGEST_MARGIN_S = 60.0


def margin_s(limit_s: float) -> float:
    """Returns how long before its limit a job starts to leave, in seconds."""
    return min(_LONGEST_MARGIN_S, max(_SHORTEST_MARGIN_S, limit_s / 20))


def run_job(command: WorkerCommand) -> CommandEnd:
    """Runs the worker of a job, or of one of its tasks.

    Every signal that SLURM or submitit sends before it kills a job - at the limit, a preemption or
    a cancellation - has the same effect: the worker leaves and releases its trial.
    """
    user_signal = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
    # SLURM sends it to every process of the job; the command inherits that it ignores it.
    signal.signal(user_signal, signal.SIG_IGN)
    # SIGCONT follows every SIGTERM and suspension; submitit's handler only logs it.
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    worker = CanopyWorker(for_task(command))
    reasons: list[str] = []

    def leave(number: int, _frame: FrameType | None) -> None:
        reasons.append(TIME_IS_UP if number == user_signal else ASKED_TO_LEAVE)
        worker.leave()

    is_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    for number in {*SIGNALS, user_signal} - ({signal.SIGHUP} if is_nohup else set()):
        signal.signal(number, leave)
    exit_status, text = worker.wait()
    if reasons and exit_status != DONE:
        return INTERRUPTED, reasons[0]
    return exit_status, text


def for_task(command: WorkerCommand) -> WorkerCommand:
    """Returns a command with the id of this task of the job, and the cores of the job."""
    task = os.environ.get("SLURM_PROCID") or os.environ.get("SUBMITIT_LOCAL_GLOBALID") or 0
    placed = dict(command.placed)
    placed["worker_id"] = (placed["worker_id"] or 0) + int(task)
    cpus = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
    if cpus and placed["workers"] == 1 and placed["threads"] is None:
        placed["threads"] = int(cpus)
    return replace(command, placed=placed)
