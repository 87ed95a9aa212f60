"""The names of a trial's states, and our attributes of Optuna's trials."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState
from pydantic import TypeAdapter, ValidationError

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
ENQUEUED_ATTR = "enqueued"
"""Identifies the setting of the configuration's list that a trial was created for."""
STAGES_ATTR = "canopy:stages"
"""System attribute: the keys of a trial's stages, shortened."""
LEFT_OUT_ATTR = "canopy:left_out"
"""System attribute in memory only, never stored: the state of a trial that is left out."""
LEFT_OUT = "left out: "
"""Start of the reason of a trial that is left out."""

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


@dataclass(frozen=True)
class _Rung:
    """The form of `RUNG_ATTR`."""

    to_epoch: int
    paused: bool


@dataclass(frozen=True)
class _Verifies:
    """The form of `VERIFIES_ATTR`."""

    kind: str
    from_epoch: int


_FORMS: dict[str, TypeAdapter[Any]] = {
    REASON_ATTR: TypeAdapter(str),
    RUNG_ATTR: TypeAdapter(_Rung),
    RESUMED_ATTR: TypeAdapter(int),
    ACCUMULATION_ATTR: TypeAdapter(list[tuple[int, int]]),
    PROMOTED_ATTR: TypeAdapter(int),
    FULL_ATTR: TypeAdapter(Literal[True]),
    VERIFIES_ATTR: TypeAdapter(_Verifies),
    FAILED_AT_ATTR: TypeAdapter(str),
    ENQUEUED_ATTR: TypeAdapter(str),
    STAGES_ATTR: TypeAdapter(list[str]),
}


def parse_attributes(stored: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Returns the attributes of a trial, without those that have our names but not our form.

    Args:
        stored: names and JSON texts of user attributes or system attributes.

    Raises:
        ValueError: a text is not JSON.
    """
    return {
        name: json.loads(text)
        for name, text in stored
        if name != LEFT_OUT_ATTR and (name not in _FORMS or _has_form(text, _FORMS[name]))
    }


def _has_form(text: str, form: TypeAdapter[Any]) -> bool:
    try:
        form.validate_json(text, strict=True)
    except ValidationError:
        return False
    return True


def left_out(trial: FrozenTrial, problem: str) -> FrozenTrial:
    """Returns what stands for an unusable trial: a failed one of which only the reason is known.

    Args:
        trial: as stored.
        problem: what is wrong with it.
    """
    return FrozenTrial(
        number=trial.number,
        trial_id=trial._trial_id,
        state=TrialState.FAIL,
        value=None,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params={},
        distributions={},
        user_attrs={REASON_ATTR: f"{LEFT_OUT}{problem}"},
        system_attrs={LEFT_OUT_ATTR: trial.state.name},
        intermediate_values={},
    )


def is_left_out(trial: FrozenTrial) -> bool:
    """Whether a trial is in the study, but cannot be used."""
    return LEFT_OUT_ATTR in trial.system_attrs


def stored_state(trial: FrozenTrial) -> TrialState:
    """Returns the state of a trial in the database."""
    name = trial.system_attrs.get(LEFT_OUT_ATTR)
    return trial.state if name is None else TrialState[name]


def is_paused(trial: FrozenTrial) -> bool:
    """Whether a trial is paused at a rung and waits for a promotion."""
    rung = trial.user_attrs.get(RUNG_ATTR)
    return trial.state == TrialState.RUNNING and rung is not None and bool(rung["paused"])


def paused_at(trial: FrozenTrial) -> int | None:
    """Returns the epoch after which a trial is paused; None if it is not."""
    return int(trial.user_attrs[RUNG_ATTR]["to_epoch"]) if is_paused(trial) else None
