"""``canopy promote``: trains the remaining epochs of pruned and paused trials."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from canopy_search.search.errors import PromotionError
from canopy_search.search.events import Emit, SearchStarted, TrialEnded, note_to
from canopy_search.search.progress_display import open_screen
from canopy_search.search.scheduling.next_trial import finished_count
from canopy_search.search.scheduling.open_study import OpenStudy, best_ap
from canopy_search.search.scheduling.pausing_pruner import rung_mark
from canopy_search.search.study.plan import SearchPlan, join_study, plan_search
from canopy_search.search.study.preflight import check_networks, open_data
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.workers.loop import open_objective
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import (
    ACCUMULATION_ATTR,
    DIVERGED,
    PROMOTED_ATTR,
    REASON_ATTR,
    RUNG_ATTR,
    is_paused,
)


def promote(
    plan: SearchPlan, database: Database, numbers: Sequence[int], emit: Emit
) -> list[TrialEnded]:
    """Trains trials until their last epoch, whatever the pruner decided.

    A pruned trial is final for Optuna, so a new trial with the same parameters resumes where it
    stopped; a paused trial is resumed itself. Both stay trials of the study and are not pruned
    again. An interrupted promotion resumes when the trial is promoted again.

    Args:
        plan: plan of the study.
        database: opened and migrated.
        numbers: numbers of the trials.
        emit: receives events.

    Raises:
        UnknownStudyError: there is no such study.
        PromotionError: a trial does not exist or cannot continue; no training has started then.
    """
    # Checked before any data is read, and again while the trial queue is locked.
    store = StudyStore(database)
    store.check_not_archived(plan.study)
    _check(store.trials(plan.study), numbers)
    dataset = open_data(plan.config.data, plan.workspace.home, emit)
    check_networks(plan.space, dataset)
    started = join_study(plan, store, dataset)
    store.close()
    retrier = plan.workspace.retrier(note_to(emit))
    with open_objective(started, database, emit, retrier, obeys=False) as objective:
        opened, trial_queue = objective.opened, objective.trial_queue
        ends: list[TrialEnded] = []
        for number in numbers:
            with trial_queue.locked() as snapshot:
                trials = _check(opened.trials(), numbers[len(ends) :], snapshot.owned)
                trial = _promoted(opened, trials[number])
                snapshot.taken = trial.number
            if not ends:
                finished = finished_count(trials.values())
                total, best = finished + len(numbers), best_ap(trials.values())
                emit(SearchStarted(plan.study, finished, total, best))
            end = objective.run_trial(trial)
            ends.append(replace(end, settled=finished_count(opened.trials())))
            emit(ends[-1])
        return ends


def _check(
    known: Sequence[FrozenTrial], numbers: Sequence[int], owned: Collection[int] = ()
) -> dict[int, FrozenTrial]:
    """Returns the study's trials by number; raises PromotionError if one cannot continue."""
    trials = {trial.number: trial for trial in known}
    for number in numbers:
        _check_trial(number, trials.get(number))
        if number in owned:
            raise PromotionError(f"trial {number} is running; wait until it pauses or ends")
        for other in trials.values():
            is_own = other.user_attrs.get(PROMOTED_ATTR) == number != other.number
            if is_own and other.state == TrialState.COMPLETE:
                raise PromotionError(
                    f"trial {number} was already promoted: see trial {other.number}"
                )
    return trials


def _check_trial(number: int, trial: FrozenTrial | None) -> None:
    if trial is None:
        raise PromotionError(f"trial {number}: the study has no such trial; see: canopy trials")
    reason = str(trial.user_attrs.get(REASON_ATTR, ""))
    if trial.state == TrialState.COMPLETE:
        raise PromotionError(f"trial {number} is complete; there is nothing left to train")
    if trial.state == TrialState.FAIL:
        raise PromotionError(f"trial {number} failed ({reason}); promote a pruned trial")
    if trial.state == TrialState.PRUNED and reason.startswith(DIVERGED):
        raise PromotionError(f"trial {number} {reason}; it cannot continue")
    can_resume = is_paused(trial) or trial.user_attrs.get(PROMOTED_ATTR) == number
    if trial.state in {TrialState.WAITING, TrialState.RUNNING} and not can_resume:
        raise PromotionError(f"trial {number} has not ended yet; canopy search resumes it")


def _promoted(opened: OpenStudy, source: FrozenTrial) -> optuna.trial.Trial:
    """Returns the trial that resumes where `source` stopped."""
    if source.state == TrialState.RUNNING:
        trial = opened.resume(source.number)
        trial.set_user_attr(PROMOTED_ATTR, source.number)
        trial.set_user_attr(RUNG_ATTR, rung_mark(max(source.intermediate_values), paused=False))
        return trial
    for other in opened.trials(TrialState.RUNNING):
        if other.user_attrs.get(PROMOTED_ATTR) == source.number:
            return opened.resume(other.number)
    before = len(opened.trials())
    attributes = {PROMOTED_ATTR: source.number}
    if ACCUMULATION_ATTR in source.user_attrs:  # it continues on the same branch of the tree
        attributes[ACCUMULATION_ATTR] = source.user_attrs[ACCUMULATION_ATTR]
    opened.study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=source.params,
            distributions=source.distributions,
            user_attrs=attributes,
        )
    )
    return opened.resume(before)


def promote_on_screen(request: StudyRequest, numbers: list[int], console: Console) -> bool:
    """Trains the remaining epochs of trials and shows the progress.

    Args:
        request: the study of the trials.
        numbers: numbers of the trials.
        console: where the progress is shown.

    Returns:
        False if the user interrupted it.
    """
    screen = open_screen(console)
    try:
        plan = plan_search(request, request.configuration.settings.search.trials)
        promote(plan, request.workspace.open(), numbers, screen.emit)
    except KeyboardInterrupt:
        return False
    finally:
        screen.close()
    return True
