"""Events that a search sends to its display."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.trial import TrialState


@dataclass(frozen=True)
class TrialEnd:
    """How one trial ended or paused.

    Attributes:
        number: trial number within the study.
        state: complete, pruned or failed; running for a paused trial.
        val_ap: validation AP after its last epoch, if there is one.
        epochs: epochs that it reported.
        trained: epochs trained for it in this run, repeated ones included.
        seconds: their training and validation time.
        reason: why it ended early.
        shared_prefix: the epochs of another trial that it started from, if any.
    """

    number: int
    state: TrialState
    val_ap: float | None
    epochs: int
    trained: int
    seconds: float
    reason: str | None = None
    shared_prefix: "SharedPrefix | None" = None


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


class SearchWatcher(Protocol):
    """Receives the events of a search in order, on the thread that runs it."""

    def note(self, text: str) -> None:
        """Something happened that the user should know."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Progress of a preparation such as decoding images."""

    def search_started(self, study: str, finished: int, n_trials: int, best: float | None) -> None:
        """The search starts or resumes."""

    def trial_started(
        self,
        number: int,
        params: Mapping[str, Any],
        from_epoch: int,
        shared_prefix: SharedPrefix | None = None,
    ) -> None:
        """A trial starts, resumes after `from_epoch` own epochs, or starts from a shared prefix."""

    def batch_done(self, epoch: int, done: int, total: int) -> None:
        """One optimizer step of the running trial is done."""

    def epoch_done(
        self, epoch: int, epochs: int, val_ap: float, best_of_others: float | None
    ) -> None:
        """An epoch is validated.

        Args:
            epoch: counts from 1.
            epochs: epochs of a full run.
            val_ap: validation AP after this epoch.
            best_of_others: the best AP of the other trials at this epoch, if there is one.
        """

    def trial_ended(self, end: TrialEnd, settled: int, best: float | None) -> None:
        """The running trial ended or paused; `settled` counts the trials that did so far."""

    def close(self) -> None:
        """The search ended or was interrupted."""
