"""Exactly N finished trials: which trial a worker takes next, and when there is none left."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState

from search.sampling import GridSampler
from search.settings import Scalar
from storage.studies import StudyStore

ENQUEUED_ATTR = "enqueued"


def finished_count(study: optuna.Study) -> int:
    """Returns the number of trials that count: complete and pruned ones."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return len(study.get_trials(deepcopy=False, states=states))


def claim_trial(store: StudyStore, study: optuna.Study, n_trials: int) -> optuna.trial.Trial | None:
    """Returns the trial to work on next, or None when the study has all it was asked for.

    A trial that its worker left behind comes first and keeps its number and parameters. The caller
    holds the study's lock, so a running trial is one that nobody runs.

    Args:
        store: where the study lies.
        study: with the sampler that samples the next trial.
        n_trials: total of finished trials of the study.
    """
    if finished_count(study) >= n_trials:
        return None
    left_behind = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    if left_behind:
        return optuna.trial.Trial(study, store.trial_id(study.study_name, left_behind[0].number))
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if not waiting and isinstance(study.sampler, GridSampler) and study.sampler.is_exhausted(study):
        return None
    return study.ask()


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
