"""Exactly N finished trials: what a worker does next, and when there is nothing left to do."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from dashboards.summary import REASON_ATTR, RUNG_ATTR, is_paused
from search.promotion import Promotion, PromotionPruner, rung_mark
from search.sampling import GridSampler
from search.settings import Scalar
from search.trials import OpenStudy, is_promoted

ENQUEUED_ATTR = "enqueued"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def finished_count(study: optuna.Study) -> int:
    """Returns the number of trials that count: complete and pruned ones."""
    return len(study.get_trials(deepcopy=False, states=FINISHED))


def settled_count(study: optuna.Study) -> int:
    """Returns the number of trials that are finished, or paused and perhaps done for good."""
    trials = study.get_trials(deepcopy=False)
    return sum(trial.state in FINISHED or is_paused(trial) for trial in trials)


def claim_trial(
    opened: OpenStudy, pruner: BasePruner, n_trials: int, owned: Collection[int] = ()
) -> optuna.trial.Trial | None:
    """Returns the trial to work on next, or None when there is none now.

    In this order: a trial that its worker left behind, which keeps its number and parameters; the
    best paused trial that deserves to go on; a new one, unless the study has all it was asked for.

    Args:
        opened: the study, with the sampler that samples the next trial.
        pruner: of the study.
        n_trials: total of finished trials of the study.
        owned: numbers of the trials that other workers run.
    """
    trials = opened.trials()
    finished = sum(trial.state in FINISHED for trial in trials)
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    for trial in running:
        # What a person promoted is wanted, however many trials there are.
        is_wanted = finished < n_trials or is_promoted(trial)
        if is_wanted and trial.number not in owned and not is_paused(trial):
            return opened.take_up(trial.number)
    if finished >= n_trials:
        return None
    is_full = finished + len(running) >= n_trials
    if isinstance(pruner, PromotionPruner):
        promotion = pruner.promotion(trials)
        if promotion is None and is_full and not owned:
            promotion = pruner.last_promotion(trials)
        if promotion is not None:
            return _promoted(opened, promotion)
    if is_full:
        return None
    study = opened.study
    waiting = any(trial.state == TrialState.WAITING for trial in trials)
    if not waiting and isinstance(study.sampler, GridSampler) and study.sampler.is_exhausted(study):
        return None
    return study.ask()


def _promoted(opened: OpenStudy, promotion: Promotion) -> optuna.trial.Trial:
    trial = opened.take_up(promotion.trial_number)
    trial.set_user_attr(RUNG_ATTR, rung_mark(promotion.to_epoch, paused=False))
    return trial


def end_paused(opened: OpenStudy) -> list[int]:
    """Ends the trials that are still paused when the study is over; returns their numbers."""
    paused = [trial for trial in opened.trials(TrialState.RUNNING) if is_paused(trial)]
    for frozen in paused:
        trial = opened.take_up(frozen.number)
        rung = frozen.user_attrs[RUNG_ATTR]["to_epoch"]
        trial.set_user_attr(REASON_ATTR, f"asha: not among the best at epoch {rung}")
        opened.study.tell(trial, state=TrialState.PRUNED)
    return [frozen.number for frozen in paused]


def enqueue_once(study: optuna.Study, settings: Sequence[Mapping[str, Scalar]]) -> int:
    """Enqueues the settings that the study does not have yet.

    A setting that is listed twice is tried twice; a list that is enqueued again is not.

    Returns:
        How many were new.
    """
    known = {trial.user_attrs.get(ENQUEUED_ATTR) for trial in study.get_trials(deepcopy=False)}
    seen: Counter[str] = Counter()
    added = 0
    for params in settings:
        text = json.dumps(dict(params), sort_keys=True)
        seen[text] += 1
        key = f"{text} #{seen[text]}"
        if key not in known:
            attributes: dict[str, Any] = {ENQUEUED_ATTR: key}
            study.enqueue_trial(dict(params), user_attrs=attributes)
            added += 1
    return added
