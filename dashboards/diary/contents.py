"""What a diary shows of a study: which settings have a section, and the numbers in each."""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from shlex import quote
from statistics import fmean
from typing import Any

from optuna.trial import TrialState

from canopy_search.dashboards.clearml.links import Pages
from canopy_search.dashboards.formatting.settings import value_words
from canopy_search.dashboards.formatting.values import (
    NONE,
    number_text,
    params_text,
    printable,
    signed_text,
)
from canopy_search.dashboards.stats.difference import Difference, NoVerdict
from canopy_search.dashboards.stats.verdict import verdicts
from canopy_search.dashboards.study.confirmation import Run
from canopy_search.dashboards.study.model import StudyData, TrialData, training_s
from canopy_search.dashboards.study.read_study import read_study
from canopy_search.dashboards.study.reader import is_number
from canopy_search.storage.database import Database
from canopy_search.storage.study.enqueued import enqueued_settings
from canopy_search.storage.study.predictions import trial_predictions
from canopy_search.storage.study.studies import StudyStore

EVERY_SETTING_UP_TO = 12
"""Up to this number of settings, each has its own section."""
_MOST = 20
"""Most groups, milestones, and enqueued settings with a section of their own."""
_FINALISTS = 3
_DIGITS = {"f1": 2, "precision": 2, "recall": 2, "ap": 2, "hamming": 3}
_LOSS_DIGITS = 4
# Characters that would end a comment, and the escape character itself.
_NOT_IN_COMMENTS = re.compile(r"%|<|>|--|-$")

Params = Mapping[str, Any]
Scores = Mapping[str, float]


@dataclass(frozen=True)
class Tried:
    """A setting, and all trials that tried it.

    Attributes:
        trials: ordered by number; the section is named after the first.
        shown: the trial that represents them: the most complete, then the best, then the first.
    """

    trials: tuple[TrialData, ...]
    shown: TrialData

    @property
    def first(self) -> TrialData:
        """The first trial."""
        return self.trials[0]

    @property
    def place(self) -> str:
        """Name of the place for the user's words; later runs look for it, so it must not change."""
        params = params_text(self.first.params)
        return place_name(f"trial {self.first.number}" + (f", {params}" if params else ""))


@dataclass(frozen=True)
class Group:
    """Settings that share a section, usually those with the same categorical values.

    Attributes:
        place: name of the place for the user's words, which must not change.
        categories: their categorical values; None for the remainder of many groups.
        trials: ordered by number, without failed and diverged ones.
        best: the setting that came furthest.
    """

    place: str
    categories: Params | None
    trials: tuple[TrialData, ...]
    best: Tried


@dataclass(frozen=True)
class Contents:
    """What the template of a diary shows.

    Attributes:
        study: the study.
        base: the baseline, if it was tried and has reported a score; `own` includes it.
        own: settings with their own section: the baseline, then the others by first trial.
        groups: the other settings.
        verdicts: trial number → verdict against the baseline, if both have as many epochs.
        pages: the trials' pages in ClearML.
    """

    study: StudyData
    base: Tried | None
    own: tuple[Tried, ...]
    groups: tuple[Group, ...]
    verdicts: Mapping[int, Difference | NoVerdict] = field(default_factory=dict)
    pages: Pages = field(default_factory=Pages)

    @cached_property
    def wrong(self) -> dict[str, list[int]]:
        """Reason → numbers of the trials that went wrong and have no section of their own."""
        shown = {tried.shown.number for tried in self.own}
        found: dict[str, list[int]] = {}
        for trial in self.study.trials:
            if trial.has_gone_wrong and trial.number not in shown:
                found.setdefault(trial.reason or "no reason was recorded", []).append(trial.number)
        return found

    @property
    def finalists(self) -> list[TrialData]:
        """The best fully trained settings, the best first."""
        return self.study.best_settings[:_FINALISTS]

    def command(self, name: str) -> str:
        """Returns a command line of Canopy for the study."""
        return f"canopy {name} --study {quote(self.study.name)}"

    def runs(self, tried: Tried | None) -> list[Run]:
        """Returns the runs of a setting with additional seeds that were scored on test."""
        confirmation = self.study.confirmation
        if tried is None or confirmation is None:
            return []
        return [r for r in confirmation.runs_of(tried.first.params) if r.test_ap is not None]

    def best_before(self, tried: Tried) -> TrialData | None:
        """Returns the best trial of the sections before that of a setting."""
        before = [each.shown for each in self.own[: self.own.index(tried)]]
        scored = [trial for trial in before if trial.is_complete and trial.score is not None]
        return max(scored, key=lambda trial: self.study.worth(trial.score), default=None)

    def base_s(self, tried: Tried) -> float | None:
        """Returns the seconds that the baseline took for as many epochs, if it had as many."""
        epochs = tried.shown.epochs
        if self.base is None or self.base is tried or len(self.base.shown.metrics) < epochs:
            return None
        return sum(map(training_s, self.base.shown.metrics[:epochs]))

    def block(self, tried: Tried) -> str:
        """Returns a setting's metrics in aligned columns, with differences to the baseline.

        Differences on VAL are after as many epochs. If the baseline was stopped earlier, another
        line compares the two after its last epoch. TEST is a mean over seeds, with differences over
        the seeds that both have.
        """
        base = None if self.base is tried else self.base
        trials = [each.shown for each in (tried, base) if each is not None and each.shown.metrics]
        last = [trial.metrics[-1]["epoch"] for trial in trials]
        rows = []
        for epoch in sorted({last[0], min(last)}, reverse=True):
            is_end = epoch == last[0] and tried.shown.is_complete
            ours, *theirs = [_scores_at(trial, epoch) for trial in trials]
            differences = _differences(ours, *theirs) if theirs else {}
            rows.append(("VAL" if is_end else f"VAL, epoch {epoch}", ours, differences))
        if tests := _tests(self.runs(tried)):
            paired = [
                _differences(tests[seed], theirs)
                for seed, theirs in _tests(self.runs(base)).items()
                if seed in tests
            ]
            rows.append(("TEST", _mean(list(tests.values())), _mean(paired)))
        return _aligned(rows)

    def outcome(self, trial: TrialData) -> str:
        """Returns what came of a trial, in a few words."""
        if trial.has_gone_wrong:
            return "went wrong"
        if trial.is_complete:
            return "fully trained"
        word = "stopped" if trial.ended_early else "not finished"
        return f"{word} after epoch {trial.epochs}" if trial.epochs else word

    def outcomes(self, group: Group) -> str:
        """Returns how many trials of a group were fully trained, and where others were stopped."""
        ordered = sorted(group.trials, key=lambda trial: (not trial.is_complete, trial.epochs))
        counts = Counter(map(self.outcome, ordered))
        return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())

    def ranges(self, group: Group) -> str:
        """Returns the range that a group tried of each numeric parameter."""
        found = []
        for name in self.study.numeric:
            values = sorted({v for t in group.trials if is_number(v := t.params.get(name))})
            ends = dict.fromkeys(value_words(name, value) for value in values[:1] + values[-1:])
            found += [f"{name} {' to '.join(ends)}"] if ends else []
        return ", ".join(found)


def read_contents(
    store: StudyStore, database: Database, name: str, places: Collection[str] = ()
) -> Contents:
    """Reads what the diary of a study shows.

    A verdict takes .4 s for each section on Planet's 6,072 validation images.

    Args:
        store: the studies of the database.
        database: an open database.
        name: name of the study.
        places: places where the user wrote something.

    Raises:
        UnknownStudyError: there is no such study.
    """
    contents = contents_of(read_study(store, database, name, datetime.now()), places)
    mirrors = (Pages.of(state, rows) for state, rows in store.mirrors(name))
    known = (pages for pages in mirrors if pages.state.web and pages.task_ids)
    contents = replace(contents, pages=next(known, Pages()))
    if contents.base is None or not contents.base.shown.is_complete:
        return contents
    base = contents.base.shown
    shown = [each.shown for each in (*contents.own, *(group.best for group in contents.groups))]
    numbers = [
        trial.number
        for trial in shown
        if trial.is_complete and trial.epochs == base.epochs and trial is not base
    ]
    predictions = trial_predictions(database, name, [base.number, *numbers])
    seen = contents.study.looked_at
    return replace(contents, verdicts=verdicts(predictions, base.number, numbers, looked_at=seen))


def contents_of(study: StudyData, places: Collection[str] = ()) -> Contents:
    """Chooses the sections of a diary.

    In a small study every setting has its own section. In a large one the baseline, enqueued
    settings, each setting that was the best so far, the finalists, and settings that were confirmed
    or have notes of the user have one. The others are grouped by their categorical values.

    Args:
        study: the study.
        places: places where the user wrote something.
    """
    by_setting: dict[str, list[TrialData]] = {}
    for trial in study.trials:
        if trial.state != TrialState.WAITING.name:
            by_setting.setdefault(repr(sorted(trial.params.items())), []).append(trial)
    tried = [
        Tried(tuple(trials), max(trials, key=lambda trial: _progress(study, trial)))
        for trials in by_setting.values()
    ]
    base = next((each for each in tried if study.baseline in each.trials), None)
    own = {each.first.number for each in _with_own_section(study, tried, places)}
    others = [t for t in tried if t.first.number not in own and not t.shown.has_gone_wrong]
    return Contents(
        study=study,
        base=base,
        own=tuple(
            each
            for each in sorted(tried, key=lambda each: each is not base)
            if each is base or each.first.number in own
        ),
        groups=_groups(study, [each for each in others if each is not base]),
    )


def place_name(text: str) -> str:
    """Returns a text as the name of a place: one line, escaped for an HTML comment."""
    line = " ".join(printable(text).split())
    return _NOT_IN_COMMENTS.sub(lambda found: "".join(f"%{ord(c):02X}" for c in found[0]), line)


def _progress(study: StudyData, trial: TrialData) -> tuple[Any, ...]:
    """Returns a key by which the trial that came furthest is the largest."""
    is_wrong, worth = trial.has_gone_wrong, study.worth(trial.score)
    return (trial.is_complete, not is_wrong, trial.epochs, worth, -trial.number)


def _with_own_section(
    study: StudyData, tried: Sequence[Tried], places: Collection[str]
) -> Sequence[Tried]:
    """Returns the settings with their own section, apart from the baseline."""
    if len(tried) <= EVERY_SETTING_UP_TO:
        return tried
    milestones: list[Tried] = []
    for each in tried:
        best = study.worth(milestones[-1].shown.score) if milestones else -math.inf
        if each.shown.is_complete and study.worth(each.shown.score) > best:
            milestones.append(each)
    config = (study.record or {}).get("config", {}).get("search", {})
    rows = [row.params for row in enqueued_settings(config.get("enqueue"))[:_MOST] if row.params]
    enqueued = [
        each
        for row in rows
        for each in [t for t in tried if row.items() <= t.first.params.items()][:1]
    ]
    finalists = {trial.number for trial in study.best_settings[:_FINALISTS]}
    others = [
        each
        for each in tried
        if each.place in places
        or any(trial.number in finalists for trial in each.trials)
        or (study.confirmation is not None and study.confirmation.runs_of(each.first.params))
    ]
    return [*milestones[-_MOST:], *enqueued, *others]


def _groups(study: StudyData, tried: Sequence[Tried]) -> tuple[Group, ...]:
    """Groups settings by categorical values; of many groups, all but the best become one."""

    def progress(each: Tried) -> tuple[Any, ...]:
        return _progress(study, each.shown)

    by_place: dict[str, list[Tried]] = {}
    for each in tried:
        text = params_text(_categories(study, each))
        by_place.setdefault(place_name(f"group {text}".strip()), []).append(each)
    if len(by_place) > _MOST:
        ranked = sorted(by_place, key=lambda place: max(map(progress, by_place[place])))
        rest = [each for place in ranked[: 1 - _MOST] for each in by_place.pop(place)]
        by_place["other groups"] = rest
    groups = []
    for place, settings in by_place.items():
        categories = None if place == "other groups" else _categories(study, settings[0])
        trials = [t for each in settings for t in each.trials if not t.has_gone_wrong]
        trials.sort(key=lambda trial: trial.number)
        groups.append(Group(place, categories, tuple(trials), max(settings, key=progress)))
    return tuple(groups)


def _categories(study: StudyData, tried: Tried) -> dict[str, Any]:
    return {name: value for name, value in tried.first.params.items() if name in study.categorical}


def _scores(metrics: Params, split: str) -> dict[str, float]:
    """Returns the numeric metrics of a split, by name without the split."""
    prefix = f"{split}_"
    return {
        name.removeprefix(prefix): float(value)
        for name, value in metrics.items()
        if name.startswith(prefix) and is_number(value)
    }


def _scores_at(trial: TrialData, epoch: int) -> Scores:
    """Returns the metrics on VAL after an epoch; none if the trial has not reported it."""
    return _scores(next((m for m in trial.metrics if m["epoch"] == epoch), {}), "val")


def _tests(runs: Sequence[Run]) -> dict[int, Scores]:
    """Returns the metrics on TEST, by seed."""
    return {run.seed: _scores(run.test or {}, "test") for run in runs}


def _differences(ours: Scores, theirs: Scores) -> Scores:
    return {name: value - theirs[name] for name, value in ours.items() if name in theirs}


def _mean(scores: Sequence[Scores]) -> Scores:
    """Returns the mean of each metric that all have."""
    names = [name for name in scores[0] if all(name in each for each in scores)] if scores else []
    return {name: fmean(each[name] for each in scores) for name in names}


def _aligned(rows: Sequence[tuple[str, Scores, Scores]]) -> str:
    """Returns lines with aligned columns.

    Args:
        rows: label, values, and differences of the values that have one.
    """
    losses = sorted({name for _, values, _ in rows for name in values if name.endswith("_loss")})
    digits = dict.fromkeys(losses, _LOSS_DIGITS) | _DIGITS
    table = []
    for label, values, differences in rows:
        cells = [label]
        for name, places in digits.items():
            text = number_text(values[name], places) if name in values else NONE
            text += f" ({signed_text(differences[name], places)})" if name in differences else ""
            cells.append(f"{'AP' if name == 'ap' else name} {text}")
        table.append(cells)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("   ".join(map(str.ljust, cells, widths)).rstrip() for cells in table)
