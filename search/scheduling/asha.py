"""Successive halving with promotion: a trial pauses at a rung and resumes when it is promoted."""

from canopy_search.search.scheduling.pausing_pruner import PausingPruner, Promotion
from canopy_search.search.scheduling.trial_index import TrialIndex


class AshaPruner(PausingPruner):
    """Asynchronous successive halving by promotion (ASHA).

    Every trial pauses at the first rung. Whenever a worker is free, the best paused trial among
    the best ``1/reduction_factor`` of all trials that reached its rung is promoted to the next
    rung; only if there is none, a new trial starts.

    Trials that share the stage at a rung have the same AP there: they rank together, and the one
    that started first is promoted first.

    Args:
        min_epochs: the first rung; each following one is `reduction_factor` times as far.
        reduction_factor: one in this many trials is promoted.
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
        self.rungs = []
        while min_epochs < epochs:
            self.rungs.append(min_epochs)
            min_epochs *= reduction_factor

    def promotion(self, trial_index: TrialIndex, *, begins: bool = False) -> Promotion | None:  # noqa: ARG002 - for pruners that start trials
        """Returns the paused trial that resumes next, if one qualifies.

        Args:
            trial_index: of the study.
            begins: whether a new trial may start; this pruner starts none.
        """
        for rung in reversed(self.rungs):
            number = trial_index.best_paused(rung)
            if number is None:
                continue
            better, all_there = trial_index.rank(number, rung)
            if better < all_there // self.reduction_factor:
                return Promotion(number, self.next_rung(rung))
        return None
