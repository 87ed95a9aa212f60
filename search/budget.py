"""Exactly N finished trials: what a worker does next, and when there is nothing left to do."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from enum import Enum
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from dashboards.summary import (
    FULL_ATTR,
    OUT_OF_MEMORY,
    REASON_ATTR,
    RUNG_ATTR,
    is_paused,
    paused_at,
)
from search.listed_sampler import ListedSampler
from search.pausing import PausingPruner, Promotion, rung_mark
from search.sampling import GridSampler
from search.space import SearchSpace
from search.trials import OpenStudy, is_promoted
from storage.enqueued import EnqueuedSetting

ENQUEUED_ATTR = "enqueued"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class Idle(Enum):
    """Why a worker has no trial."""

    WAIT = "others are at work, and may leave something to do"
    DONE = "nothing is left to do"


def finished_count(study: optuna.Study) -> int:
    """Returns the number of trials that count: complete and pruned ones."""
    return len(study.get_trials(deepcopy=False, states=FINISHED))


def claim_trial(
    opened: OpenStudy,
    pruner: BasePruner,
    n_trials: int,
    owned: Collection[int] = (),
    suspected: Collection[int] = (),
    *,
    begins: bool = True,
) -> optuna.trial.Trial | Idle:
    """Returns the trial to work on next, or why there is none now.

    In this order: a trial that its worker left behind, which keeps its number and parameters; the
    best paused trial that deserves to go on; a new one, unless the study has all it was asked for.
    A trial that may be left behind in a moment is waited for, so that trials are begun in the same
    order, whether or not a worker dies.

    Args:
        opened: the study, with the sampler that samples the next trial.
        pruner: of the study.
        n_trials: total of finished trials of the study.
        owned: numbers of the trials that other workers run.
        suspected: those of them whose worker may be dead.
        begins: whether a trial may be promoted or begun, or only what was left behind goes on.
    """
    census = opened.census()
    finished = census.finished
    for number in sorted(census.active.keys() - owned):
        # What a person promoted is wanted, however many trials there are.
        if finished < n_trials or is_promoted(census.active[number]):
            return opened.take_up(number)
    if finished >= n_trials:
        return Idle.DONE
    if suspected:
        return Idle.WAIT
    found = _begun(opened, pruner, n_trials - finished, owned) if begins else None
    return found or (Idle.WAIT if owned else Idle.DONE)


def _begun(
    opened: OpenStudy, pruner: BasePruner, n_left: int, owned: Collection[int]
) -> optuna.trial.Trial | None:
    """Returns a trial that is promoted or new, if there is to be one.

    Args:
        opened: the study.
        pruner: of the study.
        n_left: trials that are to finish yet, running ones included.
        owned: numbers of the trials that other workers run.
    """
    census = opened.census()
    is_full = census.states[TrialState.RUNNING] >= n_left
    if isinstance(pruner, PausingPruner):
        promotion = pruner.promotion(census)
        if promotion is None and is_full:
            promotion = pruner.closing_promotion(census)
        if promotion is None and is_full and not owned:
            promotion = pruner.last_promotion(opened.trials())
        if promotion is not None:
            return _promoted(opened, promotion)
    if is_full:
        return None
    study = opened.study
    sampler, waiting = study.sampler, census.states[TrialState.WAITING]
    finite = sampler if isinstance(sampler, GridSampler | ListedSampler) else None
    if not waiting and finite is not None and finite.is_exhausted(study):
        return None
    return study.ask()


def is_on_plateau(trials: Sequence[FrozenTrial], no_improvement_trials: int | None) -> bool:
    """Whether so many trials began after the best one ended, and none of them was better.

    Args:
        trials: all of the study.
        no_improvement_trials: how many; None for a search that stops for no such reason.
    """
    if no_improvement_trials is None:
        return False
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best = max(complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)
    if best is None or best.datetime_complete is None:
        return False
    since = sum(
        trial.state in FINISHED or is_paused(trial)
        for trial in trials
        if trial.datetime_start is not None and trial.datetime_start >= best.datetime_complete
    )
    return since >= no_improvement_trials


def failure_limit_reached(
    outcomes: Sequence[TrialState], in_a_row: int, in_total: int
) -> str | None:
    """Returns in words which limit of failed trials is reached, if one is.

    Args:
        outcomes: how trials ended, the latest first.
        in_a_row: failed trials one after the other that end the search.
        in_total: failed trials altogether that do.
    """
    row = 0
    for state in outcomes:
        if state != TrialState.FAIL:
            break
        row += 1
    if row >= in_a_row:
        return f"{row} trials failed in a row"
    total = sum(state == TrialState.FAIL for state in outcomes)
    return f"{total} trials failed" if total >= in_total else None


def settings_without_memory(
    failed: Sequence[FrozenTrial], space: SearchSpace
) -> list[dict[str, Any]]:
    """Returns the settings that ran out of memory, however their batches were cut.

    Args:
        failed: trials of the study that failed.
        space: what is searched.
    """
    return [
        space.canonical(trial.params)
        for trial in failed
        if str(trial.user_attrs.get(REASON_ATTR, "")).startswith(OUT_OF_MEMORY)
    ]


def _promoted(opened: OpenStudy, promotion: Promotion) -> optuna.trial.Trial:
    trial = opened.take_up(promotion.trial_number)
    trial.set_user_attr(RUNG_ATTR, rung_mark(promotion.to_epoch, paused=False))
    return trial


def end_paused(opened: OpenStudy, pruner_name: str) -> list[int]:
    """Ends the trials that are still paused when the study is over; returns their numbers.

    Args:
        opened: the study.
        pruner_name: under which they paused, for the reason.
    """
    paused = [trial for trial in opened.trials(TrialState.RUNNING) if is_paused(trial)]
    for frozen in paused:
        rung = paused_at(frozen)
        _end_pruned(opened, frozen, f"{pruner_name}: not among the best at epoch {rung}")
    return [frozen.number for frozen in paused]


def end_left(opened: OpenStudy, owned: Collection[int], reason: str) -> list[int]:
    """Ends the trials that nobody runs, as pruned; returns their numbers."""
    left = [trial for trial in opened.trials(TrialState.RUNNING) if trial.number not in owned]
    for frozen in left:
        _end_pruned(opened, frozen, reason)
    return [frozen.number for frozen in left]


def _end_pruned(opened: OpenStudy, frozen: FrozenTrial, reason: str) -> None:
    trial = opened.take_up(frozen.number)
    trial.set_user_attr(REASON_ATTR, reason)
    opened.study.tell(trial, state=TrialState.PRUNED)


def enqueue_once(study: optuna.Study, settings: Sequence[EnqueuedSetting]) -> int:
    """Enqueues the settings that the study does not have yet.

    A setting that is listed twice is tried twice; a list that is enqueued again is not.

    Returns:
        How many were new.
    """
    known = {trial.user_attrs.get(ENQUEUED_ATTR) for trial in study.get_trials(deepcopy=False)}
    seen: Counter[str] = Counter()
    added = 0
    for setting in settings:
        text = json.dumps(setting.params, sort_keys=True)
        seen[text] += 1
        key = f"{text} #{seen[text]}"
        if key not in known:
            attributes: dict[str, Any] = {ENQUEUED_ATTR: key}
            if setting.is_full:
                attributes[FULL_ATTR] = True
            study.enqueue_trial(dict(setting.params), user_attrs=attributes)
            added += 1
    return added
