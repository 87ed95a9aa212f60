"""What a search tells whoever watches it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.trial import TrialState


@dataclass(frozen=True)
class TrialEnd:
    """How one trial ended, or that it pauses.

    Attributes:
        number: of the trial in its study.
        state: complete, pruned or failed; running for a trial that pauses.
        val_ap: validation AP after its last epoch, if there is one.
        epochs: epochs that it reported.
        trained: epochs that were trained for it now, repeated ones included.
        seconds: their training and validation time.
        reason: why it ended early.
        shared_prefix: whose epochs it began with, if not with its own.
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
    """The epochs of somebody else that a trial begins with.

    Attributes:
        epoch: the last of them.
        trial_number: of the trial that trained it; None if that is not there any more.
        study: of that trial, where it is another one.
    """

    epoch: int
    trial_number: int | None
    study: str | None = None


class SearchWatcher(Protocol):
    """Receives the events of a search in order, on the thread that runs it."""

    def note(self, text: str) -> None:
        """Something happened that a person should know."""

    def progress(self, what: str, done: int, total: int) -> None:
        """A preparation such as decoding images has come so far."""

    def search_started(self, study: str, finished: int, n_trials: int, best: float | None) -> None:
        """The search begins or goes on."""

    def trial_started(
        self,
        number: int,
        params: Mapping[str, Any],
        from_epoch: int,
        shared_prefix: SharedPrefix | None = None,
    ) -> None:
        """A trial begins, or goes on after `from_epoch` epochs of its own, or after a trunk."""

    def batch_done(self, epoch: int, done: int, total: int) -> None:
        """One optimizer step of the running trial is done."""

    def epoch_done(
        self, epoch: int, epochs: int, val_ap: float, best_of_others: float | None
    ) -> None:
        """An epoch is validated.

        Args:
            epoch: counts from 1.
            epochs: of a full run.
            val_ap: after this epoch.
            best_of_others: the best AP of the other trials at this epoch, if there is one.
        """

    def trial_ended(self, end: TrialEnd, settled: int, best: float | None) -> None:
        """The running trial has ended or pauses; it is one of the `settled` ones that did."""

    def close(self) -> None:
        """The search is over or interrupted."""
