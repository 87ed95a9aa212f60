"""After an epoch: report it, and decide whether the trial goes on."""

from collections.abc import Collection
from enum import Enum

import optuna
from optuna.pruners import BasePruner

from canopy_search.dashboards.summary import RUNG_ATTR
from canopy_search.search.pausing import PausingPruner, rung_mark
from canopy_search.search.trials import runs_to_end


class Verdict(Enum):
    """What becomes of a trial after an epoch."""

    GO_ON = "goes on"
    PRUNE = "is pruned"
    PAUSE = "pauses"


def judge(
    trial: optuna.trial.Trial,
    pruner: BasePruner,
    epoch: int,
    epochs: int,
    val_ap: float,
    *,
    reported: Collection[int] = (),
) -> Verdict:
    """Reports one epoch to Optuna, unless it is, and decides.

    Args:
        trial: the running trial.
        pruner: of the study.
        epoch: counts from 1.
        epochs: of a full run.
        val_ap: validation AP after the epoch.
        reported: the epochs that Optuna has.
    """
    if epoch not in reported:
        trial.report(val_ap, epoch)
    # After the last epoch there is nothing left to save, and what was decided stays.
    if epoch >= epochs or epoch < max(reported, default=0) or runs_to_end(trial):
        return Verdict.GO_ON
    if isinstance(pruner, PausingPruner):
        if not pruner.pauses(trial, epoch):
            return Verdict.GO_ON
        trial.set_user_attr(RUNG_ATTR, rung_mark(epoch, paused=True))
        return Verdict.PAUSE
    return Verdict.PRUNE if trial.should_prune() else Verdict.GO_ON
