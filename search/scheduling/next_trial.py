"""Exactly N finished trials: what a worker does next, and when there is nothing left to do."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.config.space import SearchSpace
from canopy_search.search.scheduling.factory import GridSampler
from canopy_search.search.scheduling.fixed_list_sampler import FixedListSampler
from canopy_search.search.scheduling.open_study import OpenStudy, best_complete, is_promoted
from canopy_search.search.scheduling.pausing import NewTrial, PausingPruner, Promotion, rung_mark
from canopy_search.search.scheduling.verification import Verification, verifies_mark
from canopy_search.storage.study.enqueued import EnqueuedSetting
from canopy_search.storage.study.trial_attributes import (
    FULL_ATTR,
    OUT_OF_MEMORY,
    REASON_ATTR,
    RUNG_ATTR,
    VERIFIES_ATTR,
    is_paused,
    paused_at,
)

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
    searches: bool = True,
    verification: Verification | None = None,
) -> optuna.trial.Trial | Idle:
    """Returns the trial to work on next, or why there is none now.

    In this order: a trial that its worker left behind, which keeps its number and parameters; the
    best paused trial that deserves to go on; a new one, unless the study has all it was asked for;
    what verifies the answer.
    A trial that may be left behind in a moment is waited for, so that trials are begun in the same
    order, whether or not a worker dies.

    Args:
        opened: the study, with the sampler that samples the next trial.
        pruner: of the study.
        n_trials: total of finished trials of the study.
        owned: numbers of the trials that other workers run.
        suspected: those of them whose worker may be dead.
        begins: whether a trial may be promoted or begun, or only what was left behind goes on.
        searches: whether that goes on, or only the answer is verified.
        verification: of the answer, before the search ends.
    """
    trial_index = opened.trial_index()
    finished = trial_index.finished
    for number in sorted(trial_index.active.keys() - owned):
        # What a person promoted is wanted, however many trials there are.
        if finished < n_trials or is_promoted(trial_index.active[number]):
            return opened.take_up(number)
    if finished >= n_trials:
        return Idle.DONE
    if suspected:
        return Idle.WAIT
    found = None
    if begins:
        kept = verification.reserve(n_trials) if verification else 0
        room = _Room(n_trials - finished - trial_index.states[TrialState.RUNNING], kept, searches)
        found = _begun(opened, pruner, room, owned, verification)
    return found or (Idle.WAIT if owned else Idle.DONE)


@dataclass(frozen=True)
class _Room:
    """For how many trials there is room.

    Attributes:
        left: trials that may begin yet.
        kept: so many of them for what verifies the answer, as long as anything does.
        searches: whether the search itself goes on.
    """

    left: int
    kept: int
    searches: bool

    @property
    def is_full(self) -> bool:
        """Whether none may begin."""
        return self.left <= 0

    @property
    def is_searched(self) -> bool:
        """Whether the search itself begins none."""
        return not self.searches or self.left <= self.kept


def _begun(
    opened: OpenStudy,
    pruner: BasePruner,
    room: _Room,
    owned: Collection[int],
    verification: Verification | None,
) -> optuna.trial.Trial | None:
    """Returns a trial that resumes or begins, if there is to be one.

    Args:
        opened: the study.
        pruner: of the study.
        room: for how many trials there is room.
        owned: numbers of the trials that other workers run.
        verification: of the answer, before the search ends.
    """
    trial_index, study = opened.trial_index(), opened.study
    n_waiting = trial_index.states[TrialState.WAITING]
    sampler = study.sampler
    finite = sampler if isinstance(sampler, GridSampler | FixedListSampler) else None
    # A grid or a list says itself which trials there are, and what is enqueued comes first.
    may_begin = finite is None and not n_waiting
    if isinstance(pruner, PausingPruner) and room.searches:
        begins = may_begin and not room.is_searched
        move: Promotion | NewTrial | None = pruner.promotion(trial_index, begins=begins)
        if move is None and room.is_searched:
            move = pruner.closing_promotion(trial_index)
        if move is not None:
            return _moved(opened, move)
    if verification is not None and room.is_searched and not n_waiting:
        check = verification.check(trial_index.trials, begins=may_begin and not room.is_full)
        if check is not None:
            return _moved(opened, check.move, {VERIFIES_ATTR: verifies_mark(check)})
    if isinstance(pruner, PausingPruner) and room.is_full and not owned:
        promotion = pruner.last_promotion(opened.trials())
        if promotion is not None:
            return _moved(opened, promotion)
    # What is kept for the best trial's neighbours is so while a better one may yet end.
    is_kept = verification is not None and room.is_searched and may_begin and bool(owned)
    if room.is_full or not room.searches or is_kept:
        return None
    if not n_waiting and finite is not None and finite.is_exhausted(study):
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
    best = best_complete(trials)
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


def _moved(
    opened: OpenStudy, move: Promotion | NewTrial, attributes: Mapping[str, Any] | None = None
) -> optuna.trial.Trial:
    """Returns the trial that resumes or begins, with what is noted on it."""
    noted = {RUNG_ATTR: rung_mark(move.to_epoch, paused=False), **(attributes or {})}
    if isinstance(move, NewTrial):
        opened.study.enqueue_trial(move.params, user_attrs=noted)
        return opened.study.ask()
    trial = opened.take_up(move.trial_number)
    for name, value in noted.items():
        # Why a trial verifies, and from where on, is noted once.
        if name == RUNG_ATTR or name not in trial.user_attrs:
            trial.set_user_attr(name, value)
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
