"""Base class of the pruners that pause a trial at a rung and may resume it."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.scheduling.open_study import runs_to_end
from canopy_search.search.scheduling.trial_index import TrialIndex
from canopy_search.storage.study.trial_attributes import RUNG_ATTR, is_paused


@dataclass(frozen=True)
class Promotion:
    """A paused trial that resumes.

    Attributes:
        trial_number: which one.
        to_epoch: the next rung, where it pauses again, or the last epoch.
    """

    trial_number: int
    to_epoch: int


@dataclass(frozen=True)
class NewTrial:
    """A new trial with a setting that the pruner chose, not the sampler.

    Attributes:
        params: dotted name → value, for every searched parameter.
        to_epoch: the rung where it pauses first, or the last epoch.
    """

    params: dict[str, Any]
    to_epoch: int


class PausingPruner(BasePruner):
    """Pauses every trial at the first rung, and chooses which one resumes when a worker is free.

    A decision waits for no other trial, and none is final before the study ends; stopping at a
    rung would be final, at the time when the least is known.

    Attributes:
        rungs: epochs after which trials pause, ascending; the last epoch is none of them.
        epochs: of a full run.
    """

    rungs: list[int]
    epochs: int

    @abstractmethod
    def promotion(self, trial_index: TrialIndex, *, begins: bool) -> Promotion | NewTrial | None:
        """Returns the trial to resume or start before another setting is sampled, if any.

        Args:
            trial_index: of the study.
            begins: whether a new trial may start.
        """

    def closing_promotion(self, trial_index: TrialIndex) -> Promotion | None:  # noqa: ARG002 - for pruners that have one
        """Returns the paused trial that resumes once no new trial may start, if one qualifies.

        Args:
            trial_index: of the study.
        """
        return None

    def prune(self, study: Study, trial: FrozenTrial) -> bool:  # noqa: ARG002 - Optuna's signature
        """Returns False: a trial pauses instead; see `pauses`."""
        return False

    def pauses(self, trial: optuna.trial.Trial, epoch: int) -> bool:
        """Whether `trial` has reached the rung that it may run to."""
        if epoch >= self.epochs or runs_to_end(trial):
            return False
        rung = trial.user_attrs.get(RUNG_ATTR)
        first = self.rungs[0] if self.rungs else self.epochs
        return epoch >= int(rung["to_epoch"] if rung else first)

    def next_rung(self, epoch: int) -> int:
        """Returns the rung after an epoch, or the last epoch."""
        return next((rung for rung in self.rungs if rung > epoch), self.epochs)

    def last_promotion(self, trials: Sequence[FrozenTrial]) -> Promotion | None:
        """Returns the paused trial that resumes so that a search does not end without an answer.

        With few trials the rule may fully train none. Then the best one at the highest rung is
        fully trained once nothing else is left to do.

        Args:
            trials: all of the study.
        """
        paused = [trial for trial in trials if is_paused(trial)]
        if not paused or any(trial.state == TrialState.COMPLETE for trial in trials):
            return None

        def progress(trial: FrozenTrial) -> tuple[int, float, int]:
            epoch = max(trial.intermediate_values)
            return (epoch, trial.intermediate_values[epoch], -trial.number)

        best = max(paused, key=progress)
        return Promotion(best.number, self.next_rung(progress(best)[0]))


def epochs_at_once(pruner: BasePruner) -> int | None:
    """Returns after how many epochs every trial pauses first; None if none ever pauses."""
    rungs = pruner.rungs if isinstance(pruner, PausingPruner) else []
    return rungs[0] if rungs else None


def rung_mark(to_epoch: int, *, paused: bool) -> dict[str, Any]:
    """Returns the user attribute with the rung that a trial may run to, or is paused at."""
    return {"to_epoch": to_epoch, "paused": paused}
