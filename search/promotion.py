"""Successive halving that promotes: a trial pauses at a rung and goes on when it deserves it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from dashboards.summary import RUNG_ATTR, is_paused
from search.census import Census
from search.trials import runs_to_end


@dataclass(frozen=True)
class Promotion:
    """A paused trial that goes on.

    Attributes:
        trial_number: which one.
        to_epoch: the next rung, where it pauses again, or the last epoch.
    """

    trial_number: int
    to_epoch: int


class PromotionPruner(BasePruner):
    """Asynchronous successive halving by promotion (ASHA).

    Every trial pauses at the first rung. Whenever a worker is free, the best paused trial that
    belongs to the best ``1/reduction_factor`` of all trials that came to its rung is promoted to
    the next rung; only if there is none, a new trial begins. So a decision waits for no other
    trial, and none is final before the study ends, whereas stopping at a rung is final and is made
    when least is known.

    Trials that share the stage at a rung have the same AP there: they rank together, and the one
    that began first is promoted first.

    Args:
        min_epochs: the first rung; every next one is `reduction_factor` times as far.
        reduction_factor: one in so many trials is promoted.
        epochs: of a full run.

    Raises:
        ValueError: a number is out of range.

    References:
        Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, algorithm 2.
    """

    def __init__(self, min_epochs: int = 1, reduction_factor: int = 4, *, epochs: int) -> None:
        if min_epochs < 1:
            raise ValueError(f"min_epochs is {min_epochs}; expected at least 1")
        if reduction_factor < 2:
            raise ValueError(f"reduction_factor is {reduction_factor}; expected at least 2")
        self.reduction_factor = reduction_factor
        self.epochs = epochs
        self.rungs: list[int] = []
        while min_epochs < epochs:
            self.rungs.append(min_epochs)
            min_epochs *= reduction_factor

    def prune(self, study: Study, trial: FrozenTrial) -> bool:  # noqa: ARG002
        """Never: a trial pauses instead, see `pauses`."""
        return False

    def pauses(self, trial: optuna.trial.Trial, epoch: int) -> bool:
        """Whether `trial` has come to the rung that it may run to."""
        if epoch >= self.epochs or runs_to_end(trial):
            return False
        rung = trial.user_attrs.get(RUNG_ATTR)
        first = self.rungs[0] if self.rungs else self.epochs
        return epoch >= int(rung["to_epoch"] if rung else first)

    def promotion(self, census: Census) -> Promotion | None:
        """Returns the paused trial that goes on next, if one deserves it.

        Args:
            census: of the study.
        """
        for index in reversed(range(len(self.rungs))):
            rung = self.rungs[index]
            number = census.best_paused(rung)
            if number is None:
                continue
            better, all_there = census.standing(number, rung)
            if better < all_there // self.reduction_factor:
                return Promotion(number, [*self.rungs[index + 1 :], self.epochs][0])
        return None

    def last_promotion(self, trials: Sequence[FrozenTrial]) -> Promotion | None:
        """Returns the paused trial that goes on so that a search does not end without an answer.

        With fewer trials than ``reduction_factor`` to the number of rungs none comes to the end by
        the rule. Then the best one of the highest rung does, once nothing else is left to do.

        Args:
            trials: all of the study.
        """
        paused = [trial for trial in trials if is_paused(trial)]
        if not paused or any(trial.state == TrialState.COMPLETE for trial in trials):
            return None

        def standing(trial: FrozenTrial) -> tuple[int, float, int]:
            epoch = max(trial.intermediate_values)
            return (epoch, trial.intermediate_values[epoch], -trial.number)

        best = max(paused, key=standing)
        higher = [rung for rung in self.rungs if rung > standing(best)[0]]
        return Promotion(best.number, [*higher, self.epochs][0])


def rung_mark(to_epoch: int, *, paused: bool) -> dict[str, Any]:
    """Returns what a trial's user attribute says of where it may run to."""
    return {"to_epoch": to_epoch, "paused": paused}
