"""Which settings of a study are confirmed, and with which seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState

from canopy_search.dashboards.study.baseline import SEED, Baseline, baseline, setting_of
from canopy_search.dashboards.study.model import StudyData, TrialData


@dataclass(frozen=True)
class Candidate:
    """A setting to train with additional seeds.

    Attributes:
        params: dotted name of a parameter → value, without the seed.
        trial: number of its trial in the search, if it had one.
        searched_epochs: number of epochs of that trial; fewer if it was pruned.
        searched_ap: its validation AP after them.
        is_finalist: whether it is one of the best of the search.
        is_baseline: whether it is the setting that the search should improve.
    """

    params: dict[str, Any]
    trial: int | None
    searched_epochs: int
    searched_ap: float | None
    is_finalist: bool
    is_baseline: bool


def candidates(summary: StudyData, record: Mapping[str, Any], top: int) -> list[Candidate]:
    """Returns the finalists, the best first, then the baseline unless it is one of them.

    Finalists are the fully trained settings with the best validation AP. A search that prunes many
    trials leaves few of these, and the trials it pruned last may be as good, which additional seeds
    can show. So if there are too few, the pruned settings with the most epochs follow, the best AP
    first.

    Args:
        summary: of the searched study.
        record: what the study started with.
        top: number of finalists; fewer are returned if there are no more.
    """
    base = baseline(summary.trials, record) or Baseline({}, None)
    best = _best_settings(summary)
    found = [_candidate(finalist, base.params, is_finalist=True) for finalist in best[:top]]
    if any(candidate.is_baseline for candidate in found):
        return found
    for other in best[top:]:
        if setting_of(other.params) == base.params:
            return [*found, _candidate(other, base.params, is_finalist=False)]
    number = None if base.trial is None else base.trial.number
    return [*found, Candidate(base.params, number, 0, None, is_finalist=False, is_baseline=True)]


def finalists_at_hand(summary: StudyData) -> int:
    """Returns the number of different settings that can be finalists."""
    return len(_best_settings(summary))


def additional_seeds(record: Mapping[str, Any], count: int) -> tuple[int, ...]:
    """Returns the seeds that finalists are confirmed with.

    They follow the seed of all trials of the study: 1, 2, 3 for a study with seed 0. The random
    numbers of an epoch come from a digest of its seed, so consecutive seeds are independent. The
    study's own seed is not used again, since finalists were chosen with it and their luck would
    count twice. If seeds were searched, the additional ones follow the highest.

    Args:
        record: what the study started with.
        count: number of seeds.
    """
    return tuple(range(highest_seed(record) + 1, highest_seed(record) + 1 + count))


def highest_seed(record: Mapping[str, Any]) -> int:
    """Returns the highest seed that a trial of the study can have."""
    domain = record["config"]["search"]["space"].get(SEED, [record["training"][SEED]])
    return int(max(domain) if isinstance(domain, list) else domain["high"])


def _candidate(trial: TrialData, base: dict[str, Any], *, is_finalist: bool) -> Candidate:
    return Candidate(
        params=setting_of(trial.params),
        trial=trial.number,
        searched_epochs=len(trial.metrics),
        searched_ap=trial.val_ap,
        is_finalist=is_finalist,
        is_baseline=setting_of(trial.params) == base,
    )


def _best_settings(summary: StudyData) -> list[TrialData]:
    """Returns complete trials, then pruned ones, each the best first and each setting once."""
    pruned = [
        trial
        for trial in summary.trials
        if trial.state == TrialState.PRUNED.name and trial.metrics and not trial.has_gone_wrong
    ]
    pruned.sort(key=lambda trial: (-len(trial.metrics), -summary.worth(trial.val_ap), trial.number))
    found: list[TrialData] = []
    for trial in (*summary.ranking, *pruned):
        if all(setting_of(trial.params) != setting_of(other.params) for other in found):
            found.append(trial)
    return found
