"""The names of a trial's states, and our user attributes of Optuna's trials."""

from optuna.trial import FrozenTrial, TrialState

REASON_ATTR = "reason"
"""Why a trial ended early."""
DIVERGED = "diverged"
"""Start of the reason of a trial whose loss was NaN or infinite."""
OUT_OF_MEMORY = "out of memory"
"""Likewise, for a trial that does not fit into memory with any number of micro-batches."""
LETHAL = "ends its workers"
"""Likewise, for a trial that several workers in a row died of."""
OVERTIME = "max_trial_s"
"""Likewise, for a trial that exceeded the time limit."""
STOPPED = "stopped by canopy stop"
"""The complete reason of a trial that the user stopped."""
RUNG_ATTR = "rung"
"""The epoch up to which a trial may train, and whether it is paused there."""
RESUMED_ATTR = "epochs_resumed"
"""Epochs that a trial did not train because it resumed from another run's checkpoint."""
ACCUMULATION_ATTR = "accumulation"
"""Gradient accumulation after running out of memory: a list of [from epoch, micro-batches]."""
PROMOTED_ATTR = "promoted_from"
"""The pruned trial that the user promoted to its last epoch."""
FULL_ATTR = "full"
"""Set if it is fully trained under every pruner, like the baseline."""
VERIFIES_ATTR = "verifies"
"""Set if it was resumed or started to verify the answer: why, and after which epoch."""
FAILED_AT_ATTR = "failed_at"
"""Machine and device of the worker that recorded that a trial failed."""

PAUSED = "PAUSED"
"""The state of a trial that is running for Optuna and waits for a promotion."""
INTERRUPTED = "INTERRUPTED"
"""Likewise, for a trial without a live worker: the next worker resumes it."""

NEIGHBOUR = "neighbour"
"""Reason to verify: the trial differs from the best one in one number."""
CONTENDER = "contender"
"""Reason to verify: its predicted final value is as high as that of the best one."""
UNTRAINED = "untrained"
"""Reason to verify: no trial of its network was fully trained."""


def is_paused(trial: FrozenTrial) -> bool:
    """Whether a trial is paused at a rung and waits for a promotion."""
    rung = trial.user_attrs.get(RUNG_ATTR)
    return trial.state == TrialState.RUNNING and rung is not None and bool(rung["paused"])


def paused_at(trial: FrozenTrial) -> int | None:
    """Returns the epoch after which a trial is paused; None if it is not."""
    return int(trial.user_attrs[RUNG_ATTR]["to_epoch"]) if is_paused(trial) else None
