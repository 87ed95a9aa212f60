"""Faults that a process does to itself at a chosen point of the code, or at a chosen place."""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from optuna.trial import Trial

from canopy_search.search.trial.objective import Objective
from canopy_search.search.workers import launcher
from canopy_search.storage.workers.session import WorkerSession
from tests.faults.sleeping_run import SleepingRun

Prepare = Callable[[], None]
"""Is called in a process that works, before it begins."""


def nth_time(counter: Path) -> int:
    """Returns how often this was called, in all processes together.

    Each time is a byte in the file: another thread may kill the process at any moment here.
    """
    with counter.open("ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b".")
        return file.tell()


def times(counter: Path) -> int:
    """Returns how often a point was come to."""
    return counter.stat().st_size if counter.exists() else 0


def before(
    owner: Any,
    name: str,
    counter: Path,
    at: Collection[int],
    do: Callable[[], None] | None = None,
) -> Prepare:
    """Does something to the process as it comes to a function the first, third … time.

    Args:
        owner: the class or module that has the function.
        name: of the function.
        counter: a file.
        at: the times, counted over all processes.
        do: kills the process by default.
    """

    def prepare() -> None:
        original = getattr(owner, name)

        def doomed(*arguments: Any, **options: Any) -> Any:
            if nth_time(counter) in at:
                (do or kill_self)()
            return original(*arguments, **options)

        setattr(owner, name, doomed)

    return prepare


def after(owner: Any, name: str, counter: Path, at: Collection[int]) -> Prepare:
    """Kills the process as it leaves a function the first, third … time."""

    def prepare() -> None:
        original = getattr(owner, name)

        def doomed(*arguments: Any, **options: Any) -> Any:
            result = original(*arguments, **options)
            if nth_time(counter) in at:
                kill_self()
            return result

        setattr(owner, name, doomed)

    return prepare


def kill_self() -> None:
    """Ends this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def freeze_self() -> None:
    """Stops this process until somebody lets it go on."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.2)  # this thread may be the last one to stop


def lose_the_accelerator() -> None:
    """Fails as torch does when the context of a GPU is dead."""
    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nadvice")


def replace_at_once() -> None:
    """Lets a launcher replace workers that die without the pauses that a person sees."""
    launcher._FIRST_PAUSE_S = 0.05


def in_epochs_where(is_bad: Callable[[str, int], bool], do: Callable[[], None]) -> Prepare:
    """Does something in every epoch at bad places, or of bad trials."""

    def prepare() -> None:
        replace_at_once()
        register, run_trial = WorkerSession.register, Objective.run_trial
        train_epoch = SleepingRun.train_epoch
        places: list[str] = []
        numbers: list[int] = []

        def registered(self: WorkerSession) -> None:
            places.append(self.place)
            register(self)

        def run(self: Objective, trial: Trial) -> object:
            numbers.append(trial.number)
            return run_trial(self, trial)

        def train(self: SleepingRun, on_batch: object = None) -> object:
            if is_bad(places[-1], numbers[-1]):
                do()
            return train_epoch(self, on_batch)

        WorkerSession.register = registered
        Objective.run_trial = run
        SleepingRun.train_epoch = train

    return prepare
