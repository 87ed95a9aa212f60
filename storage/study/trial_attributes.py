"""The words for a trial's state, and the user attributes in which Optuna keeps what is ours."""

from optuna.trial import FrozenTrial, TrialState

REASON_ATTR = "reason"
"""Why a trial ended early."""
DIVERGED = "diverged"
"""How the reason of a trial begins whose loss was not a number."""
OUT_OF_MEMORY = "out of memory"
"""Likewise, of one that does not fit into memory however its batches are cut."""
OVERTIME = "max_trial_s"
"""Likewise, of one that took too long."""
STOPPED = "stopped by canopy stop"
"""The whole reason of one that a person ended."""
RUNG_ATTR = "rung"
"""To which epoch a trial may run, and whether it pauses there."""
RESUMED_ATTR = "epochs_resumed"
"""Epochs that another run's checkpoint saved a trial from training."""
ACCUMULATION_ATTR = "accumulation"
"""How its batches are cut since memory ran out: a list of [from epoch, micro-batches]."""
PROMOTED_ATTR = "promoted_from"
"""The pruned trial that a person gave the rest of its epochs."""
FULL_ATTR = "full"
"""That it runs to its end under every pruner, as the baseline does."""
VERIFIES_ATTR = "verifies"
"""That it was resumed or begun to verify the answer: why, and after which epoch."""

PAUSED = "PAUSED"
"""The state of a trial that Optuna counts as running and that waits for a promotion."""
INTERRUPTED = "INTERRUPTED"
"""Likewise, of one that no living worker has: the next worker resumes it."""

NEIGHBOUR = "neighbour"
"""A trial verifies because it differs from the best one in one number,"""
CONTENDER = "contender"
"""because it is heading as high as the best one,"""
UNTRAINED = "untrained"
"""or because no trial of its network had run to its end."""


def is_paused(trial: FrozenTrial) -> bool:
    """Whether a trial waits at a rung for being promoted."""
    rung = trial.user_attrs.get(RUNG_ATTR)
    return trial.state == TrialState.RUNNING and rung is not None and bool(rung["paused"])


def paused_at(trial: FrozenTrial) -> int | None:
    """Returns the epoch that a trial pauses after; None if it does not pause."""
    return int(trial.user_attrs[RUNG_ATTR]["to_epoch"]) if is_paused(trial) else None
