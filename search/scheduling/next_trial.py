"""Chooses the next trial of a worker, up to exactly N finished trials."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.config.settings import SearchSettings
from canopy_search.search.config.space import SearchSpace
from canopy_search.search.errors import SearchSpaceError
from canopy_search.search.scheduling.factory import GRID, GridSampler
from canopy_search.search.scheduling.fixed_list_sampler import LISTED, FixedListSampler
from canopy_search.search.scheduling.open_study import OpenStudy, best_complete, is_promoted
from canopy_search.search.scheduling.pausing_pruner import (
    NewTrial,
    PausingPruner,
    Promotion,
    rung_mark,
)
from canopy_search.search.scheduling.verification import Verification, verifies_mark
from canopy_search.storage.study.enqueued import EnqueuedSetting
from canopy_search.storage.study.trial_attributes import (
    ENQUEUED_ATTR,
    FULL_ATTR,
    REASON_ATTR,
    RUNG_ATTR,
    VERIFIES_ATTR,
    is_paused,
    paused_at,
)
from canopy_search.storage.workers.control import RUN

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class Idle(Enum):
    """Why a worker has no trial."""

    WAIT = "other workers are running and may leave trials to do"
    DONE = "nothing left to do"


class SearchEnd(Enum):
    """Why a search is over."""

    COMPLETE = "the study has all its trials"
    LOWERED = "the study has all its trials; another process has lowered their number"
    TIME_UP = "time limit reached; the same command resumes it"
    STOPPED = "the user stopped the study; the same command starts it again"
    PLATEAU = "the last trials were no better than the best one before them (search.stop_when)"
    EXHAUSTED = "the grid has no more points"
    LISTED = "every setting of the list has a trial"
    NOTHING_LEFT = "no trial is left to start"

    @property
    def is_final(self) -> bool:
        """Whether the search has its answer: neither a limit nor the user ended it early."""
        return self not in {SearchEnd.TIME_UP, SearchEnd.STOPPED}


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a study when nothing is left to do.

    Attributes:
        n_trials: total of finished trials that this search was asked for.
        target: the study's current total; None if it is not set.
        control: control state of the study; see `storage.workers.control`.
    """

    n_trials: int
    target: int | None
    control: str


def search_end(trials: Sequence[FrozenTrial], wanted: Wanted, search: SearchSettings) -> SearchEnd:
    """Returns why nothing is left to do.

    Args:
        trials: all of the study.
        wanted: of the study.
        search: the search settings.
    """
    finished = finished_count(trials)
    if finished >= wanted.n_trials:
        return SearchEnd.COMPLETE
    if wanted.target is not None and finished >= wanted.target:
        return SearchEnd.LOWERED
    if wanted.control != RUN:
        return SearchEnd.STOPPED
    if is_on_plateau(trials, search.stop_when.no_improvement_trials):
        return SearchEnd.PLATEAU
    ends = {GRID: SearchEnd.EXHAUSTED, LISTED: SearchEnd.LISTED}
    return ends.get(search.sampler.name, SearchEnd.NOTHING_LEFT)


def finished_count(trials: Iterable[FrozenTrial]) -> int:
    """Returns the number of trials that count: complete and pruned ones."""
    return sum(trial.state in FINISHED for trial in trials)


@dataclass(frozen=True)
class TrialRequest:
    """What a worker asks for.

    Attributes:
        n_trials: total of finished trials of the study.
        owned: numbers of the trials that other workers run.
        suspected: those of them whose worker may be dead.
        begins: whether trials may be promoted or started; else only abandoned ones resume.
        searches: whether the search continues; else only the answer is verified.
    """

    n_trials: int
    owned: Collection[int] = ()
    suspected: Collection[int] = ()
    begins: bool = True
    searches: bool = True


def choose_trial(
    opened: OpenStudy,
    pruner: BasePruner,
    request: TrialRequest,
    verification: Verification | None = None,
) -> optuna.trial.Trial | Idle:
    """Returns the trial to work on next, or why there is none now.

    In this order: a trial that its worker left behind, which keeps its number and parameters; the
    best paused trial that is promoted; a new trial, unless the study has all its trials; a trial
    that verifies the answer.
    If the worker of a trial may be dead, the claim waits, so that trials start in the same order
    whether or not a worker dies.

    Args:
        opened: the study, with the sampler of the next trial.
        pruner: of the study.
        request: how many trials the study shall have, and what may be done for it.
        verification: of the answer, before the search ends.
    """
    n_trials, owned = request.n_trials, request.owned
    trial_index = opened.trial_index()
    finished = trial_index.finished
    for number in sorted(trial_index.active.keys() - owned):
        # A trial that the user promoted resumes, even if the study has all its trials.
        if finished < n_trials or is_promoted(trial_index.active[number]):
            return opened.resume(number)
    if finished >= n_trials:
        return Idle.DONE
    if request.suspected:
        return Idle.WAIT
    found = None
    if request.begins:
        reserved = verification.reserve(n_trials) if verification else 0
        left = n_trials - finished - trial_index.states[TrialState.RUNNING]
        budget = _Budget(left, reserved, request.searches)
        found = _resumed_or_started(opened, pruner, budget, owned, verification)
    return found or (Idle.WAIT if owned else Idle.DONE)


@dataclass(frozen=True)
class _Budget:
    """How many new trials may start.

    Attributes:
        left: trials that may still start.
        reserved: how many of them are reserved for verifying the answer.
        searches: whether the search itself continues.
    """

    left: int
    reserved: int
    searches: bool

    @property
    def is_spent(self) -> bool:
        """Whether no trial may start."""
        return self.left <= 0

    @property
    def is_search_spent(self) -> bool:
        """Whether the search itself may start no trial."""
        return not self.searches or self.left <= self.reserved


def _resumed_or_started(
    opened: OpenStudy,
    pruner: BasePruner,
    budget: _Budget,
    owned: Collection[int],
    verification: Verification | None,
) -> optuna.trial.Trial | None:
    """Returns a trial that resumes or starts, if any may.

    Args:
        opened: the study.
        pruner: of the study.
        budget: how many new trials may start.
        owned: numbers of the trials that other workers run.
        verification: of the answer, before the search ends.
    """
    trial_index, study = opened.trial_index(), opened.study
    n_waiting = trial_index.states[TrialState.WAITING]
    sampler = study.sampler
    finite = sampler if isinstance(sampler, GridSampler | FixedListSampler) else None
    # A grid or a list defines all its trials, and enqueued settings come first.
    may_start = finite is None and not n_waiting
    if isinstance(pruner, PausingPruner) and budget.searches:
        begins = may_start and not budget.is_search_spent
        move: Promotion | NewTrial | None = pruner.promotion(trial_index, begins=begins)
        if move is None and budget.is_search_spent:
            move = pruner.closing_promotion(trial_index)
        if move is not None:
            return _carry_out(opened, move)
    if verification is not None and budget.is_search_spent and not n_waiting:
        check = verification.check(trial_index.trials, begins=may_start and not budget.is_spent)
        if check is not None:
            return _carry_out(opened, check.move, {VERIFIES_ATTR: verifies_mark(check)})
    if isinstance(pruner, PausingPruner) and budget.is_spent and not owned:
        promotion = pruner.last_promotion(opened.trials())
        if promotion is not None:
            return _carry_out(opened, promotion)
    # Trials stay reserved for the best trial's neighbours while running trials may become the best.
    is_reserved = verification is not None and budget.is_search_spent and may_start and bool(owned)
    if budget.is_spent or not budget.searches or is_reserved:
        return None
    if not n_waiting and finite is not None and finite.is_exhausted(study):
        return None
    return study.ask()


def unfit_to_start(trial: FrozenTrial, space: SearchSpace, *, samples: bool) -> str | None:
    """Returns why a waiting trial cannot start; None if it can.

    Args:
        trial: a waiting one, which any program may have enqueued.
        space: the search space.
        samples: whether the study's sampler can sample what is missing.
    """
    params = trial.system_attrs.get("fixed_params", {})
    if not isinstance(params, Mapping):
        return "its fixed_params are not a mapping"
    try:
        space.check_enqueued(params)
    except SearchSpaceError as error:
        return "; ".join(str(error).splitlines())
    if not samples and (missing := space.distributions.keys() - params):
        return f"it has no {min(missing)}, and the sampler of this study samples nothing"
    return None


def is_on_plateau(trials: Sequence[FrozenTrial], no_improvement_trials: int | None) -> bool:
    """Whether this many trials started after the best one ended without improving on it.

    Args:
        trials: all of the study.
        no_improvement_trials: how many; None if the search does not stop for this reason.
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


def _carry_out(
    opened: OpenStudy, move: Promotion | NewTrial, attributes: Mapping[str, Any] | None = None
) -> optuna.trial.Trial:
    """Returns the trial that resumes or starts, with its user attributes set."""
    user_attrs = {RUNG_ATTR: rung_mark(move.to_epoch, paused=False), **(attributes or {})}
    if isinstance(move, NewTrial):
        opened.study.enqueue_trial(move.params, user_attrs=user_attrs)
        return opened.study.ask()
    trial = opened.resume(move.trial_number)
    for name, value in user_attrs.items():
        # Why a trial verifies the answer, and from which epoch on, is recorded once.
        if name == RUNG_ATTR or name not in trial.user_attrs:
            trial.set_user_attr(name, value)
    return trial


def end_paused(opened: OpenStudy, pruner_name: str) -> list[int]:
    """Marks the trials still paused at the end of the study pruned; returns their numbers.

    Args:
        opened: the study.
        pruner_name: for the reason.
    """
    paused = [trial for trial in opened.trials(TrialState.RUNNING) if is_paused(trial)]
    for frozen in paused:
        rung = paused_at(frozen)
        _end_pruned(opened, frozen, f"{pruner_name}: not among the best at epoch {rung}")
    return [frozen.number for frozen in paused]


def end_left(opened: OpenStudy, owned: Collection[int], reason: str) -> list[int]:
    """Marks the running trials without a worker pruned; returns their numbers."""
    left = [trial for trial in opened.trials(TrialState.RUNNING) if trial.number not in owned]
    for frozen in left:
        _end_pruned(opened, frozen, reason)
    return [frozen.number for frozen in left]


def _end_pruned(opened: OpenStudy, frozen: FrozenTrial, reason: str) -> None:
    trial = opened.resume(frozen.number)
    trial.set_user_attr(REASON_ATTR, reason)
    opened.study.tell(trial, state=TrialState.PRUNED)


def enqueue_once(study: optuna.Study, settings: Sequence[EnqueuedSetting]) -> int:
    """Enqueues the settings that the study does not have yet.

    A setting listed twice is tried twice; enqueueing the same list again adds nothing.

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
