"""The sections of a diary about settings, groups of settings, and what went wrong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from shlex import quote
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from canopy_search.dashboards.diary.blocks import (
    metrics_block,
    plain_score,
)
from canopy_search.dashboards.diary.data import DiaryData, shown_of_group
from canopy_search.dashboards.diary.outline import Group, Tried
from canopy_search.dashboards.formatting.markdown import code, escaped, link
from canopy_search.dashboards.formatting.settings import (
    base_words,
    difference_words,
    intent_words,
    setting_words,
    value_words,
)
from canopy_search.dashboards.formatting.values import (
    counted,
    difference_text,
    duration_text,
    number_text,
    signed_text,
    value_text,
)
from canopy_search.dashboards.stats.difference import Difference, NoVerdict
from canopy_search.dashboards.study.model import TrialData
from canopy_search.storage.study.trial_attributes import DIVERGED, INTERRUPTED, OVERTIME, PAUSED

_MOST_REASONS = 20
_MOST_NUMBERS = 12
_UNKNOWN = "no reason was recorded"
_UNFINISHED = {
    TrialState.RUNNING.name: "is running",
    PAUSED: "is paused",
    INTERRUPTED: "is interrupted",
}


@dataclass(frozen=True)
class Section:
    """A part of a diary with a place for the user's words.

    Attributes:
        heading: Markdown.
        place: name of the place.
        lines: Markdown above the place.
    """

    heading: str
    place: str
    lines: list[str]


def tried_section(
    data: DiaryData, tried: Tried, *, best: TrialData | None, previous: TrialData | None
) -> Section:
    """Returns the section of a setting.

    Args:
        data: data of the diary.
        tried: the setting.
        best: the best trial before it.
        previous: the trial of the section before it.
    """
    base = data.base
    if tried is base:
        what = f"Baseline: {setting_words(tried.params)}"
        intent = base_words((data.study.record or {}).get("training", {}))
    elif base is not None:
        what = difference_words(tried.params, base.params)
        intent = intent_words(tried.params, base.params)
    else:
        what = setting_words(tried.params)
        intent = f"{what or 'The configuration as it is'}."
    heading = f"{_date(tried.first.began)} · {escaped(what)} (trial {tried.first.number})"
    sentences = [escaped(intent), *_repeats(tried)]
    lines = [" ".join(sentences), "", *metrics_block(data, tried)]
    if (times := _times_text(data, tried)) is not None:
        lines += [times, ""]
    lines += [*_links(data, tried), verdict_text(data, tried, best, previous), ""]
    return Section(heading, tried.place, lines)


def group_section(data: DiaryData, group: Group) -> Section:
    """Returns the section of a group of settings."""
    trials = group.trials
    if group.categories is None:
        what = "Other combinations"
    elif group.categories:
        what = f"{setting_words(group.categories)}: {counted(len(trials), 'further trial')}"
    else:
        what = counted(len(trials), "further trial")
    days = list(dict.fromkeys(_date(trial.began) for trial in trials))
    heading = f"{days[0]}{f' to {days[-1]}' if days[1:] else ''} · {escaped(what)}"
    text = f"{_group_text(data, group)}."
    best = shown_of_group(data.study, group.settings)
    lines = [text if best else f"{text}{_furthest_text(data, trials)}", ""]
    if best is not None:
        lines += [f"The best of them, trial {best.shown.number}{_numbers(data, best)}:", ""]
        lines += [*metrics_block(data, best), *_links(data, best), verdict_text(data, best)]
        lines += [""]
    return Section(heading, group.place, lines)


def wrong_section(data: DiaryData) -> Section:
    """Returns the section of trials that went wrong, grouped by reason."""
    by_reason: dict[str, list[int]] = {}
    for trial in data.outline.wrong:
        by_reason.setdefault(trial.reason or _UNKNOWN, []).append(trial.number)
    shown = list(by_reason.items())[:_MOST_REASONS]
    lines = [f"- {_trials_text(numbers)}: {escaped(reason)}" for reason, numbers in shown]
    if others := list(by_reason.values())[_MOST_REASONS:]:
        count = sum(map(len, others))
        lines.append(
            f"- {counted(count, 'further trial')} for other reasons; `canopy trials` lists them"
        )
    return Section("What went wrong", "what went wrong", [*lines, ""])


def verdict_text(
    data: DiaryData,
    tried: Tried,
    best: TrialData | None = None,
    previous: TrialData | None = None,
) -> str:
    """Returns the result of a setting in words.

    Args:
        data: data of the diary.
        tried: the setting.
        best: the best trial before it, if both should be compared.
        previous: the trial of the section before it, likewise.
    """
    trial, base = tried.shown, data.base
    state = trial.state
    if trial.has_gone_wrong:
        return f"{_wrong_word(trial)}: {escaped(_reason(trial))}."
    if state in _UNFINISHED:
        after = f" (after epoch {trial.epochs})" if trial.epochs else ""
        return f"It {_UNFINISHED[state]}{after}; there is no verdict yet."
    if not trial.is_complete:
        return (
            f"{_stopped_text(data, trial)} There is no verdict, because its final score is unknown."
        )
    sentences = []
    if tried is base:
        sentences.append("All other settings are compared with it.")
    elif base is not None and data.study.is_ours:
        sentences.append(_compared_text(data, trial, base.shown))
    if best is not None and tried is not base:
        sentences.append(_so_far_text(data, trial, best))
    if previous is not None and all(previous is not each for each in (best, base and base.shown)):
        sentences += _after_text(data, trial, previous)
    if runs := data.tests_of(tried.params):
        sentences.append(_tested_text(runs))
    return " ".join(sentences) or "It is fully trained."


def _compared_text(data: DiaryData, trial: TrialData, base: TrialData) -> str:
    verdict = data.verdicts.get(trial.number)
    if isinstance(verdict, Difference):
        word = {"within noise": "Within noise of"}.get(
            verdict.verdict, f"{verdict.verdict.capitalize()} than"
        )
        comparisons = counted(verdict.comparisons, "comparison")
        lead = f"AP {difference_text(verdict, 3)}, adjusted for {comparisons}"
        return f"**{word} the baseline**: {lead}."
    if isinstance(verdict, NoVerdict):
        return f"No verdict: {escaped(verdict.reason)}."
    if not base.is_complete:
        promote = code(f"canopy promote {base.number} --study {quote(data.study.name)}")
        return (
            f"No verdict: the baseline was stopped after epoch {base.epochs}; {promote} trains "
            "its remaining epochs."
        )
    if trial.epochs != base.epochs:
        return f"No verdict: it has {counted(trial.epochs, 'epoch')}, the baseline {base.epochs}."
    return "There is no verdict."


def _so_far_text(data: DiaryData, trial: TrialData, best: TrialData) -> str:
    study = data.study
    if study.worth(trial.score) > study.worth(best.score):
        return f"The best so far, before trial {best.number} ({plain_score(study, best.score)})."
    return f"The best remains trial {best.number} ({plain_score(study, best.score)})."


def _after_text(data: DiaryData, trial: TrialData, previous: TrialData) -> list[str]:
    if previous.score is None or trial.score is None or previous.epochs != trial.epochs:
        return []
    if not data.study.is_ours:
        return []
    difference = signed_text(trial.score - previous.score, 3)
    return [f"Compared with trial {previous.number}, the previous one: AP {difference}."]


def _tested_text(runs: Sequence[Any]) -> str:
    val = sum(float(run.val["val_ap"]) for run in runs) / len(runs)
    test = sum(float(run.test["test_ap"]) for run in runs) / len(runs)
    seeds = ", ".join(str(run.seed) for run in runs)
    origin = "the mean of additional seeds" if len(runs) > 1 else "from additional seed"
    return (
        f"TEST is {origin} {seeds}; VAL of the same runs: AP {number_text(val, 2)}, from which "
        f"TEST differs by {signed_text(test - val, 2)}."
    )


def _stopped_text(data: DiaryData, trial: TrialData) -> str:
    planned = data.study.planned_epochs
    total = f" of {planned}" if planned >= trial.epochs and trial.epochs else ""
    at = f" after epoch {trial.epochs}{total}" if trial.epochs else " before its first epoch"
    reason = f" ({escaped(trial.reason)})" if trial.reason else ""
    text = f"**Stopped**{at}{reason}."
    base = data.base
    then = (
        base.shown.score_at(trial.epochs) if base is not None and base.shown is not trial else None
    )
    if then is not None:
        text += f" The baseline had {plain_score(data.study, then)} after as many epochs."
    return text


def _times_text(data: DiaryData, tried: Tried) -> str | None:
    """Returns the training time from the start, and its ratio to the baseline's."""
    trial, base = tried.shown, data.base
    seconds = trial.duration_s
    if seconds is None or not trial.epochs:
        return None
    epochs = f" for {counted(trial.epochs, 'epoch')}" if data.study.is_ours else ""
    text = f"Training takes {duration_text(seconds)}{epochs}"
    if base is None or base is tried:
        return f"{text}."
    base_metrics = base.shown.metrics[: trial.epochs]
    if len(base_metrics) < trial.epochs:
        return f"{text}."
    base_s = sum(float(epoch["train_s"] + epoch["val_s"]) for epoch in base_metrics)
    if not base_s:
        return f"{text}."
    return (
        f"{text}, {seconds / base_s:.1f} times as long as the baseline's {duration_text(base_s)}."
    )


def _links(data: DiaryData, tried: Tried) -> list[str]:
    number, base = tried.shown.number, data.base
    links = []
    if (run := data.pages.task(number, "metrics/scalar")) is not None:
        links.append(link("ClearML run", run))
    if base is not None and base is not tried:
        both = data.pages.comparison([base.shown.number, number])
        links += [] if both is None else [link("compared with the baseline", both)]
    return [" · ".join(links), ""] if links else []


def _repeats(tried: Tried) -> list[str]:
    sentences = []
    trials = [t for t in tried.trials if t is tried.shown or not t.has_gone_wrong]
    promoted = [t for t in trials if t.promoted_from not in {None, t.number}]
    sentences += [f"Trial {t.number} resumes trial {t.promoted_from}." for t in promoted]
    numbers = {t.number for t in promoted}
    again = [t.number for t in trials[1:] if t.number not in numbers]
    if again:
        sentences.append(f"Tried again as {_trials_text(again)}.")
    if tried.shown is not tried.first:
        sentences.append(f"The numbers are of trial {tried.shown.number}.")
    return sentences


def _group_text(data: DiaryData, group: Group) -> str:
    trials, settings = group.trials, group.settings
    what = _trials_text([trial.number for trial in trials])
    what = what[:1].upper() + what[1:]
    if ranges := _ranges(data, settings):
        what += f" with {ranges}"
    complete = sum(trial.is_complete for trial in trials)
    outcomes = [f"{complete} fully trained"] if complete else []
    stops = Counter(trial.epochs for trial in trials if trial.ended_early)
    if stops:
        counts = [f"{count} after epoch {epoch}" for epoch, count in sorted(stops.items())]
        early = f" early: {', '.join(counts)}" if counts[1:] else f" after epoch {min(stops)}"
        outcomes.append(f"{sum(stops.values())} stopped{early}")
    repeats = len(trials) - len(settings)
    if repeats:
        outcomes.append(f"{counted(repeats, 'repeat')} of a setting among them")
    unfinished = sum(trial.state in {"RUNNING", INTERRUPTED} for trial in trials)
    if unfinished:
        outcomes.append(f"{unfinished} not finished yet")
    return f"{what}: {'; '.join(outcomes)}" if outcomes else what


def _furthest_text(data: DiaryData, trials: Sequence[TrialData]) -> str:
    """Returns a sentence about the trial with the most epochs, where none is fully trained."""
    study = data.study
    scored = [trial for trial in trials if trial.score is not None]
    if not scored:
        return ""
    best = max(scored, key=lambda t: (t.epochs, study.worth(t.score), -t.number))
    name = "AP" if study.is_ours else escaped(study.metric)
    at = f" after epoch {best.epochs}" if best.epochs else ""
    return f" Trial {best.number} came furthest: {name} {plain_score(study, best.score)}{at}."


def _ranges(data: DiaryData, settings: Sequence[Tried]) -> str:
    """Returns the range that was tried of each numeric parameter."""
    found = []
    for name, domain in data.study.distributions.items():
        values = sorted({t.params[name] for t in settings if name in t.params}, key=_sortable)
        if isinstance(domain, CategoricalDistribution) or not values:
            continue
        low, high = value_words(name, values[0]), value_words(name, values[-1])
        found.append(escaped(f"{name} {low}" + (f" to {high}" if len(values) > 1 else "")))
    return ", ".join(found)


def _sortable(value: Any) -> tuple[int, float, str]:
    is_number = isinstance(value, int | float)
    return (0, float(value), "") if is_number else (1, 0.0, value_text(value))


def _numbers(data: DiaryData, tried: Tried) -> str:
    numeric = {name: value for name, value in tried.params.items() if name in data.study.numeric}
    return f" ({escaped(setting_words(numeric))})" if numeric else ""


def _trials_text(numbers: Sequence[int]) -> str:
    """Returns numbers of trials; if there are many, only the first and the last."""
    if len(numbers) == 1:
        return f"trial {numbers[0]}"
    if len(numbers) > _MOST_NUMBERS:
        return f"{len(numbers)} trials from {min(numbers)} to {max(numbers)}"
    known = sorted(numbers)
    return f"trials {', '.join(map(str, known[:-1]))} and {known[-1]}"


def _wrong_word(trial: TrialData) -> str:
    reason = trial.reason or ""
    if reason.startswith(DIVERGED):
        return "**Diverged**"
    return "**Took too long**" if reason.startswith(OVERTIME) else "**Failed**"


def _reason(trial: TrialData) -> str:
    reason = trial.reason or _UNKNOWN
    return reason.removeprefix(f"{DIVERGED}: ").rstrip(".")


def _date(instant: datetime | None) -> str:
    return "undated" if instant is None else f"{instant:%d.%m.%Y}"
