"""``canopy promote``: gives pruned and paused trials the rest of their epochs."""

from collections.abc import Collection, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from canopy_search.dashboards.summary import (
    ACCUMULATION_ATTR,
    DIVERGED,
    PROMOTED_ATTR,
    REASON_ATTR,
    RUNG_ATTR,
    is_paused,
)
from canopy_search.search.budget import finished_count
from canopy_search.search.errors import PromotionError
from canopy_search.search.events import SearchWatcher, TrialEnd
from canopy_search.search.pausing import rung_mark
from canopy_search.search.plan import SearchPlan, join_study
from canopy_search.search.preparation import check_networks, open_data
from canopy_search.search.trials import OpenStudy
from canopy_search.search.worker import best_ap, open_objective
from canopy_search.storage.database import Database
from canopy_search.storage.outages import Patience
from canopy_search.storage.studies import StudyStore


def promote(
    plan: SearchPlan, database: Database, numbers: Sequence[int], watcher: SearchWatcher
) -> list[TrialEnd]:
    """Trains trials to their last epoch, whatever the pruner thinks of them.

    A pruned trial is final for Optuna, so a new one with the same parameters goes on from where it
    stopped; a paused one goes on itself. Both are kept with the trials of the study and are not
    pruned any more. What was interrupted goes on when it is promoted again.

    Args:
        plan: of the study.
        database: opened and migrated.
        numbers: of the trials.
        watcher: is told what happens.

    Raises:
        UnknownStudyError: there is no such study.
        PromotionError: a trial does not exist or cannot go on; nothing has begun then.
    """
    # Before any data is read, and again when nobody else decides.
    store = StudyStore(database)
    _check(store.load_study(plan.study), numbers)
    dataset = open_data(plan.config.data, plan.home, watcher)
    check_networks(plan.space, dataset)
    begun = join_study(plan, store, dataset)
    store.close()
    patience = Patience(plan.patience_s, revive=database.revive, note=watcher.note)
    with open_objective(begun, database, watcher, patience, obeys=False) as objective:
        opened, desk = objective.opened, objective.desk
        ends: list[TrialEnd] = []
        for number in numbers:
            with desk.decide() as standing:
                trials = _check(opened.study, numbers[len(ends) :], standing.owned)
                trial = _promoted(opened, trials[number])
                standing.taken = trial.number
            if not ends:
                finished = finished_count(opened.study)
                total = finished + len(numbers)
                watcher.search_started(plan.study, finished, total, best_ap(opened.study))
            end = objective.run_trial(trial)
            watcher.trial_ended(end, finished_count(opened.study), best_ap(opened.study))
            ends.append(end)
        return ends


def _check(
    study: optuna.Study, numbers: Sequence[int], owned: Collection[int] = ()
) -> dict[int, FrozenTrial]:
    """Returns the study's trials by number; raises PromotionError if one cannot go on."""
    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    for number in numbers:
        _check_trial(number, trials.get(number))
        if number in owned:
            raise PromotionError(f"trial {number} is a worker's now; wait for it to pause or end")
        for other in trials.values():
            is_own = other.user_attrs.get(PROMOTED_ATTR) == number != other.number
            if is_own and other.state == TrialState.COMPLETE:
                raise PromotionError(
                    f"trial {number} was promoted before: see trial {other.number}"
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
        raise PromotionError(f"trial {number} {reason}; it cannot go on")
    goes_on = is_paused(trial) or trial.user_attrs.get(PROMOTED_ATTR) == number
    if trial.state in {TrialState.WAITING, TrialState.RUNNING} and not goes_on:
        raise PromotionError(
            f"trial {number} has not come to its end; canopy search goes on with it"
        )


def _promoted(opened: OpenStudy, source: FrozenTrial) -> optuna.trial.Trial:
    """Returns the trial that goes on where `source` stopped."""
    if source.state == TrialState.RUNNING:
        trial = opened.take_up(source.number)
        trial.set_user_attr(PROMOTED_ATTR, source.number)
        trial.set_user_attr(RUNG_ATTR, rung_mark(max(source.intermediate_values), paused=False))
        return trial
    for other in opened.trials(TrialState.RUNNING):
        if other.user_attrs.get(PROMOTED_ATTR) == source.number:
            return opened.take_up(other.number)
    before = len(opened.trials())
    attributes = {PROMOTED_ATTR: source.number}
    if ACCUMULATION_ATTR in source.user_attrs:  # it goes on on the same branch of the tree
        attributes[ACCUMULATION_ATTR] = source.user_attrs[ACCUMULATION_ATTR]
    opened.study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=source.params,
            distributions=source.distributions,
            user_attrs=attributes,
        )
    )
    return opened.take_up(before)
