"""Outline of a diary: which settings have their own section, and which share one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState

from canopy_search.dashboards.diary.words import place_name
from canopy_search.dashboards.formatting.values import params_text
from canopy_search.dashboards.study.baseline import setting_of
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.storage.study.enqueued import enqueued_settings

EVERY_SETTING_UP_TO = 12
"""Up to this number of settings, each has its own section."""
FINALISTS = 3
_MOST_ENQUEUED = 12
_MOST_MILESTONES = 20
_MOST_GROUPS = 20


@dataclass(frozen=True)
class Tried:
    """A setting, and all trials that tried it.

    Attributes:
        trials: ordered by number.
        shown: the trial that represents them: the most complete, then the best, then the first.
    """

    trials: tuple[TrialData, ...]
    shown: TrialData

    @property
    def first(self) -> TrialData:
        """The first trial, which the section is named after."""
        return self.trials[0]

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters of the setting."""
        return self.first.params

    @property
    def place(self) -> str:
        """Name of the place for the user's words; later runs look for it, so it must not change."""
        params = params_text(self.params)
        return place_name(f"trial {self.first.number}" + (f", {params}" if params else ""))


@dataclass(frozen=True)
class Group:
    """Settings with the same categorical values, which share a section.

    Attributes:
        categories: their common categorical values; None for the remainder of many groups.
        settings: ordered by their first trials.
    """

    categories: Mapping[str, Any] | None
    settings: tuple[Tried, ...]

    @property
    def trials(self) -> list[TrialData]:
        """Their trials ordered by number, without failed and diverged ones."""
        trials = [trial for tried in self.settings for trial in tried.trials]
        sound = [trial for trial in trials if not trial.has_gone_wrong]
        return sorted(sound, key=lambda trial: trial.number)

    @property
    def place(self) -> str:
        """Name of the place for the user's words; later runs look for it, so it must not change."""
        if self.categories is None:
            return "other groups"
        return place_name(f"group {params_text(self.categories)}".strip())


@dataclass(frozen=True)
class Outline:
    """The sections of a diary about settings.

    Attributes:
        base: the baseline, if it was tried; `own` includes it.
        own: settings with their own section: the baseline, then the others ordered by first trial.
        groups: the other settings, ordered by first trial.
        wrong: trials that went wrong, except those that sections in `own` show.
    """

    base: Tried | None
    own: tuple[Tried, ...]
    groups: tuple[Group, ...]
    wrong: tuple[TrialData, ...]


def outline_of(
    data: StudyData, *, places: Collection[str] = (), confirmed: Sequence[Mapping[str, Any]] = ()
) -> Outline:
    """Chooses the sections of a diary.

    In a small study every setting has its own section. In a large one the baseline, enqueued
    settings, each setting that was the best so far, the finalists, and settings with notes of the
    user have one. The others are grouped by their categorical values.

    Args:
        data: the study.
        places: places where the user wrote something.
        confirmed: settings that were trained with additional seeds.
    """
    tried = settings_of(data)
    base = base_of(data, tried)
    if len(tried) <= EVERY_SETTING_UP_TO:
        own = tried
    else:
        chosen = [each for each in (base, *_milestones(data, tried)) if each is not None]
        chosen += [*_enqueued(data, tried), *finalists_of(data, tried)]
        chosen += [each for each in tried if setting_of(each.params) in confirmed]
        chosen += [each for each in tried if each.place in places]
        numbers = {each.first.number for each in chosen}
        own = [each for each in tried if each.first.number in numbers]
    own.sort(key=lambda each: (each is not base, each.first.number))
    numbers = {each.first.number for each in own}
    others = [each for each in tried if each.first.number not in numbers]
    shown = {each.shown.number for each in own}
    wrong = [t for t in data.trials if t.has_gone_wrong and t.number not in shown]
    sound = [each for each in others if not each.shown.has_gone_wrong]
    return Outline(base, tuple(own), _groups(data, sound), tuple(wrong))


def settings_of(data: StudyData) -> list[Tried]:
    """Returns all settings, ordered by their first trials."""
    found: dict[str, list[TrialData]] = {}

    def progress(trial: TrialData) -> tuple[Any, ...]:
        is_wrong, worth = trial.has_gone_wrong, data.worth(trial.score)
        return (trial.is_complete, not is_wrong, trial.epochs, worth, -trial.number)

    for trial in data.trials:
        if trial.state != TrialState.WAITING.name:
            found.setdefault(repr(sorted(trial.params.items())), []).append(trial)
    return [Tried(tuple(trials), max(trials, key=progress)) for trials in found.values()]


def base_of(data: StudyData, tried: Sequence[Tried]) -> Tried | None:
    """Returns the setting of the baseline, if it was tried and reported a result."""
    base = data.baseline
    return None if base is None else _with_trial(tried, base)


def finalists_of(data: StudyData, tried: Sequence[Tried]) -> list[Tried]:
    """Returns the best fully trained settings, the best first."""
    return [_with_trial(tried, trial) for trial in data.best_settings[:FINALISTS]]


def _with_trial(tried: Sequence[Tried], trial: TrialData) -> Tried:
    numbers = {each.number: setting for setting in tried for each in setting.trials}
    return numbers[trial.number]


def _milestones(data: StudyData, tried: Sequence[Tried]) -> list[Tried]:
    """Returns the settings that were the best so far; if there are many, the last ones."""
    found: list[Tried] = []
    for each in tried:
        is_better = not found or data.worth(each.shown.score) > data.worth(found[-1].shown.score)
        if each.shown.is_complete and each.shown.score is not None and is_better:
            found.append(each)
    return found[-_MOST_MILESTONES:]


def _enqueued(data: StudyData, tried: Sequence[Tried]) -> list[Tried]:
    """Returns the enqueued settings, or none if they are too many for sections of their own."""
    config = (data.record or {}).get("config", {}).get("search", {})
    rows = [each.params for each in enqueued_settings(config.get("enqueue")) if each.params]
    if len(rows) > _MOST_ENQUEUED:
        return []
    found = []
    for row in rows:
        found += [each for each in tried if row.items() <= each.params.items()][:1]
    return found


def _groups(data: StudyData, tried: Sequence[Tried]) -> tuple[Group, ...]:
    """Groups settings by categorical values; of many groups, all but the best become one."""
    names = list(data.categorical)
    found: dict[str, list[Tried]] = {}
    for each in tried:
        found.setdefault(repr([each.params.get(name) for name in names]), []).append(each)
    groups = [
        Group({n: v for n, v in each[0].params.items() if n in names}, tuple(each))
        for each in found.values()
    ]
    if len(groups) <= _MOST_GROUPS:
        return tuple(groups)

    def worth(group: Group) -> float:
        return max(data.worth(each.shown.score) for each in group.settings)

    places = {each.place for each in sorted(groups, key=worth, reverse=True)[: _MOST_GROUPS - 1]}
    rest = [each for group in groups if group.place not in places for each in group.settings]
    rest.sort(key=lambda each: each.first.number)
    return (*(group for group in groups if group.place in places), Group(None, tuple(rest)))
