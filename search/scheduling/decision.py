"""Reports an epoch and decides whether the trial continues."""

from collections.abc import Collection
from enum import Enum

import optuna
from optuna.pruners import BasePruner

from canopy_search.search.events import EpochDone
from canopy_search.search.scheduling.open_study import runs_to_end
from canopy_search.search.scheduling.pausing_pruner import PausingPruner, rung_mark
from canopy_search.storage.study.trial_attributes import RUNG_ATTR


class Decision(Enum):
    """What happens to a trial after an epoch."""

    CONTINUE = "continues"
    STOP = "is pruned"
    PAUSE = "pauses"


def report_and_decide(
    trial: optuna.trial.Trial,
    pruner: BasePruner,
    done: EpochDone,
    reported: Collection[int] = (),
) -> Decision:
    """Reports one epoch to Optuna, unless already reported, and decides.

    Args:
        trial: the running trial.
        pruner: of the study.
        done: the epoch.
        reported: the epochs that Optuna already has.
    """
    epoch = done.epoch
    if epoch not in reported:
        trial.report(done.val_ap, epoch)
    # After the last epoch there is nothing left to save, and earlier decisions stand.
    if epoch >= done.epochs or epoch < max(reported, default=0) or runs_to_end(trial):
        return Decision.CONTINUE
    if isinstance(pruner, PausingPruner):
        if not pruner.pauses(trial, epoch):
            return Decision.CONTINUE
        trial.set_user_attr(RUNG_ATTR, rung_mark(epoch, paused=True))
        return Decision.PAUSE
    return Decision.STOP if trial.should_prune() else Decision.CONTINUE
