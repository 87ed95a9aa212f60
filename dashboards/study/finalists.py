"""Which settings of a study are confirmed, and with which seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState

from canopy_search.dashboards.study.summary import StudySummary, TrialSummary
from canopy_search.storage.study.enqueued import baseline_params

SEED = "seed"  # a training setting as any other, which a space may have


@dataclass(frozen=True)
class Candidate:
    """A setting that is trained with further seeds.

    Attributes:
        params: dotted name of a setting → value, without the seed.
        trial: the number of its trial in the search, if it had one.
        searched_epochs: how many epochs that trial had; pruned ones have fewer than others.
        searched_ap: its validation AP after them.
        is_finalist: whether it is one of the best of the search.
        is_baseline: whether it is what the search was to improve.
    """

    params: dict[str, Any]
    trial: int | None
    searched_epochs: int
    searched_ap: float | None
    is_finalist: bool
    is_baseline: bool


def candidates(summary: StudySummary, record: Mapping[str, Any], top: int) -> list[Candidate]:
    """Returns the finalists, the best first, and the baseline unless it is one of them.

    Finalists are the settings with the best validation AP of those that were trained to their end.
    A search that prunes much leaves few of these, and what it pruned last may have been no worse:
    that is what further seeds are to tell. So where there are too few, those follow that got
    furthest, the best AP first.

    Args:
        summary: of the study that was searched.
        record: what it was begun with.
        top: how many finalists; fewer where there are no more.
    """
    base, trial = baseline(summary, record)
    best = _best_settings(summary)
    found = [_candidate(each, base, is_finalist=True) for each in best[:top]]
    if any(each.is_baseline for each in found):
        return found
    for each in best[top:]:
        if setting_of(each.params) == base:
            return [*found, _candidate(each, base, is_finalist=False)]
    return [*found, Candidate(base, trial, 0, None, is_finalist=False, is_baseline=True)]


def finalists_at_hand(summary: StudySummary) -> int:
    """Returns how many different settings can be finalists."""
    return len(_best_settings(summary))


def baseline(summary: StudySummary, record: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
    """Returns the setting that the search was to improve, and its first trial if it had one.

    It is the first setting that was enqueued when the study began, with whatever the sampler added
    to it; where none was, it is what `training` says.

    Args:
        summary: of the study.
        record: what it was begun with.
    """
    search = record["config"]["search"]
    enqueued = baseline_params(search["enqueue"])
    fixed = {name: _looked_up(record["training"], name) for name in search["space"]}
    wanted = enqueued or fixed
    for trial in summary.trials:
        if wanted.items() <= trial.params.items() and trial.params.keys() >= fixed.keys():
            return setting_of(trial.params), trial.number
    return setting_of(fixed | enqueued), None


def further_seeds(record: Mapping[str, Any], count: int) -> tuple[int, ...]:
    """Returns the seeds that finalists are confirmed with.

    They follow on the seed that all trials of the study had: 1, 2, 3 for a study of seed 0. Every
    epoch's randomness comes from a digest of its seed, so neighbours have nothing in common. The
    study's own seed is none of them: finalists were chosen because that seed favoured them, and
    would take their luck along. Where seeds were searched, those follow on the highest.

    Args:
        record: what the study was begun with.
        count: how many.
    """
    return tuple(range(highest_seed(record) + 1, highest_seed(record) + 1 + count))


def highest_seed(record: Mapping[str, Any]) -> int:
    """Returns the highest seed that a trial of a study can have had."""
    domain = record["config"]["search"]["space"].get(SEED, [record["training"][SEED]])
    return int(max(domain) if isinstance(domain, list) else domain["high"])


def setting_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a trial's parameters without the seed."""
    return {name: value for name, value in params.items() if name != SEED}


def _candidate(trial: TrialSummary, base: dict[str, Any], *, is_finalist: bool) -> Candidate:
    return Candidate(
        params=setting_of(trial.params),
        trial=trial.number,
        searched_epochs=len(trial.metrics),
        searched_ap=trial.val_ap,
        is_finalist=is_finalist,
        is_baseline=setting_of(trial.params) == base,
    )


def _best_settings(summary: StudySummary) -> list[TrialSummary]:
    """Returns complete trials, then pruned ones, the best first, each setting once."""
    pruned = [
        trial
        for trial in summary.trials
        if trial.state == TrialState.PRUNED.name and trial.metrics and not trial.has_gone_wrong
    ]
    pruned.sort(key=lambda trial: (-len(trial.metrics), -(trial.val_ap or 0.0), trial.number))
    found: list[TrialSummary] = []
    for trial in (*summary.ranking, *pruned):
        if all(setting_of(trial.params) != setting_of(other.params) for other in found):
            found.append(trial)
    return found


def _looked_up(document: Mapping[str, Any], name: str) -> Any:
    value: Any = document
    for step in name.split("."):
        value = value[step]
    return value
