"""Events of a search: frozen values that travel unchanged from a worker to log and screen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from optuna.trial import TrialState


@dataclass(frozen=True)
class Event:
    """Base of all events."""


Emit = Callable[[Event], None]
"""Receives the events of one worker, in order."""


@dataclass(frozen=True)
class Note(Event):
    """Something happened that the user should know."""

    text: str


@dataclass(frozen=True)
class Progress(Event):
    """Progress of a preparation such as decoding images."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class SearchStarted(Event):
    """The search starts or resumes.

    Attributes:
        study: name of the study.
        finished: number of finished trials.
        n_trials: requested number of them.
        best: best AP so far.
    """

    study: str
    finished: int
    n_trials: int
    best: float | None


@dataclass(frozen=True)
class SharedPrefix:
    """Epochs of another trial that a trial starts from.

    Attributes:
        epoch: the last of them.
        trial_number: trial that trained it; None if that trial no longer exists.
        study: that trial's study, if it is a different one.
    """

    epoch: int
    trial_number: int | None
    study: str | None = None


@dataclass(frozen=True)
class TrialStarted(Event):
    """A trial starts, or resumes.

    Attributes:
        number: trial number within the study.
        params: its values.
        from_epoch: epochs that it has reported before.
        shared_prefix: the epochs of another trial that it starts from, if any.
    """

    number: int
    params: Mapping[str, Any]
    from_epoch: int = 0
    shared_prefix: SharedPrefix | None = None


@dataclass(frozen=True)
class BatchDone(Event):
    """One optimizer step of the running trial is done."""

    epoch: int
    done: int
    total: int


@dataclass(frozen=True)
class EpochDone(Event):
    """An epoch of the running trial is validated.

    Attributes:
        epoch: counts from 1.
        epochs: epochs of a full run.
        val_ap: validation AP after this epoch.
        best_of_others: the best AP of the other trials at this epoch, if there is one.
    """

    epoch: int
    epochs: int
    val_ap: float
    best_of_others: float | None = None


@dataclass(frozen=True)
class TrialEnded(Event):
    """A trial ended or paused.

    Attributes:
        number: trial number within the study.
        params: its values.
        state: complete, pruned or failed; running for a paused trial.
        val_ap: validation AP after its last epoch, if there is one.
        epochs: epochs that it reported.
        trained: epochs trained for it in this run, repeated ones included.
        seconds: their training and validation time.
        settled: how many trials of the study have ended or paused by now.
        best: the best AP of the complete trials.
        reason: why it ended early.
        shared_prefix: the epochs of another trial that it started from, if any.
    """

    number: int
    params: Mapping[str, Any]
    state: TrialState
    val_ap: float | None
    epochs: int
    trained: int
    seconds: float
    settled: int
    best: float | None
    reason: str | None = None
    shared_prefix: SharedPrefix | None = None


class Ending(Enum):
    """How a worker ended."""

    FAILED = "no worker of the study can continue"
    DONE = "nothing is left to do in the study"
    LEFT = "it was asked to leave, or its time is up"
    UNFIT = "its machine lacks something"
    SICK = "trials fail on it, while other workers are healthy"
    DIED = "its process died"


@dataclass(frozen=True)
class WorkerEnded(Event):
    """A worker ended; its last event.

    Attributes:
        ending: how.
        reason: in words, such as ``was killed by SIGKILL`` or ``there are no images``.
    """

    ending: Ending
    reason: str = ""


def note_to(emit: Emit) -> Callable[[str], None]:
    """Returns a function that emits a text as a `Note`."""
    return lambda text: emit(Note(text))


def progress_to(emit: Emit) -> Callable[[str, int, int], None]:
    """Returns a function that emits its arguments as `Progress`."""
    return lambda what, done, total: emit(Progress(what, done, total))
