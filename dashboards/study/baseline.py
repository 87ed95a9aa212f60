"""The baseline of a study: the setting that the search should improve, and its trial."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from canopy_search.storage.study.enqueued import baseline_params

if TYPE_CHECKING:
    from canopy_search.dashboards.study.model import TrialData

SEED = "seed"  # a training setting like any other, so a space may contain it


@dataclass(frozen=True)
class Baseline:
    """The setting that a search should improve.

    Attributes:
        params: dotted name of a parameter → value, without the seed.
        trial: the first trial with this setting and a score, else the first with this setting; None
            if it was not tried.
    """

    params: dict[str, Any]
    trial: "TrialData | None"


def baseline(trials: Sequence["TrialData"], record: Mapping[str, Any]) -> Baseline | None:
    """Returns the baseline of a study.

    It is the first setting that was enqueued when the study started, completed by the sampler; if
    none was, it is the setting under `training`.

    Args:
        trials: of the study, in the order of their numbers.
        record: what the study started with.

    Returns:
        The baseline; None if the record has no configuration.
    """
    search = record.get("config", {}).get("search", {})
    enqueued = baseline_params(search.get("enqueue"))
    space = search.get("space") or {}
    fixed = {name: _setting_at(record.get("training", {}), name) for name in space}
    given = enqueued or fixed
    if not given:
        return None
    with_setting = [
        trial
        for trial in trials
        if given.items() <= trial.params.items() and trial.params.keys() >= fixed.keys()
    ]
    scored = [trial for trial in with_setting if trial.score is not None]
    tried = next(iter(scored or with_setting), None)
    return Baseline(setting_of(tried.params if tried else fixed | enqueued), tried)


def setting_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a trial's parameters without the seed."""
    return {name: value for name, value in params.items() if name != SEED}


def _setting_at(settings: Any, name: str) -> Any:
    """Returns the value of a dotted name; None if there is none."""
    for part in name.split("."):
        if not isinstance(settings, Mapping):
            return None
        settings = settings.get(part)
    return settings
