"""The answer of a search: the best setting, its AP with an interval, its cost, what it beats."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from optuna.trial import TrialState

from canopy_search.dashboards.answer.confirmation_text import confirmation_text
from canopy_search.dashboards.answer.confirmed import confirmed_facts, confirmed_title
from canopy_search.dashboards.answer.verified import verified
from canopy_search.dashboards.formatting.tables import counts_text, objectives_text, score_text
from canopy_search.dashboards.formatting.values import (
    NONE,
    capitalised,
    counted,
    duration_text,
    interval_text,
    params_text,
    signed_interval,
)
from canopy_search.dashboards.html.page import Fact
from canopy_search.dashboards.stats.difference import (
    WITHIN_NOISE,
    Difference,
    Interval,
    NoVerdict,
)
from canopy_search.dashboards.stats.verdict import ap_interval, verdicts
from canopy_search.dashboards.study.model import StudyData, TrialData


@dataclass(frozen=True)
class Answer:
    """How certain the ranking is.

    Attributes:
        interval: of the best trial's AP, or why there is none.
        against: trial number → verdict on the best against that trial, or why there is none.
        looked_at: number of settings that the best was chosen from.
    """

    interval: Interval | NoVerdict
    against: Mapping[int, Difference | NoVerdict] = field(default_factory=dict)
    looked_at: int = 1


def answer_of(data: StudyData) -> Answer:
    """Compares the best trial with its runner-up and with the baseline."""
    best = data.best
    if best is None:
        return Answer(NoVerdict("no trial is complete"))
    seen = data.looked_at
    own = data.predictions.get(best.number)
    if own is None:
        return Answer(NoVerdict("its predictions were not kept"), {}, seen)
    others = [t for t in (data.runner_up, data.baseline) if t is not None and t is not best]
    numbers = list(dict.fromkeys(trial.number for trial in others))
    # `verdicts` compares others with a fixed trial; here the fixed one is compared with them.
    found = verdicts(data.predictions, best.number, numbers, looked_at=seen)
    return Answer(
        ap_interval(own, looked_at=seen),
        {
            number: verdict if isinstance(verdict, NoVerdict) else verdict.reversed()
            for number, verdict in found.items()
        },
        seen,
    )


def title(data: StudyData) -> str:
    """Returns the answer in one sentence."""
    if data.confirmation is not None and data.confirmation.winner is not None:
        return confirmed_title(data.confirmation.winner)
    best, leader = data.best, data.leader
    if best is not None:
        return f"{params_text(best.params) or f'Trial {best.number}'}: {_value(data, best)}"
    if leader is not None:
        where = f" after {data.step} {leader.epochs}" if leader.epochs else ""
        return (
            f"No trial is complete yet; trial {leader.number} is ahead with "
            f"{score_text(data, leader.score)}{where}"
        )
    if data.trials:
        return "No trial has reported anything yet"
    return "This study has no trials yet"


def lead(data: StudyData, answer: Answer) -> list[str]:
    """Returns the context of the answer, one paragraph each."""
    without_best = [] if data.best is not None else _without_best(data)
    return [*findings(data, answer), *_progress(data), *without_best]


def findings(data: StudyData, answer: Answer) -> list[str]:
    """Returns what the search found, one paragraph each, without its progress."""
    confirmed = [] if data.confirmation is None else [confirmation_text(data.confirmation)]
    if data.best is None:
        return confirmed
    if data.confirmation is not None and data.confirmation.winner is not None:
        return [*confirmed, _searched_text(data, data.best, answer)]
    first = _best_text(data, data.best, answer)
    if data.runner_up is not None:
        first += " " + _runner_up_text(data, data.runner_up, answer)
    paragraphs = [*confirmed, first]
    if data.baseline is not data.runner_up:
        paragraphs += _against_baseline(data, answer)
    paragraphs += _verified(data)
    if data.objectives > 1:
        paragraphs.append(objectives_text(data))
    return paragraphs


def closing(data: StudyData) -> list[str]:
    """Returns the last lines of a search: verdict against the baseline, and what was verified."""
    return [*_against_baseline(data, answer_of(data)), *_verified(data)]


def facts(data: StudyData, answer: Answer) -> list[Fact]:
    """Returns the figures needed for a decision."""
    best = data.best
    if data.confirmation is not None and data.confirmation.winner is not None:
        return confirmed_facts(data, data.confirmation, data.confirmation.winner)
    if best is None:
        return []
    found = [
        Fact("Best setting", params_text(best.params) or NONE, f"trial {best.number}"),
        _score_fact(data, best, answer),
    ]
    if best.duration_s is not None:
        found.append(_time_fact(data, best))
    if (second := data.runner_up) is not None:
        found.append(_against_fact("Runner-up", data, second, answer))
    base = data.baseline
    if base is not None and base is not best and base is not second:
        found.append(_against_fact("Baseline", data, base, answer))
    return found


def _best_text(data: StudyData, best: TrialData, answer: Answer) -> str:
    if not data.is_ours:
        return (
            f"Trial {best.number} is the best of {counted(len(data.ranking), 'complete trial')}. "
            "Plain Optuna wrote this study, so its epochs, data and predictions are unknown."
        )
    settings = counted(answer.looked_at, "setting")
    sentence = f"Trial {best.number} is the best of {settings}."
    if isinstance(answer.interval, NoVerdict):
        return f"{sentence} Its AP has no confidence interval: {answer.interval.reason}."
    images = len(data.predictions[best.number].validation.targets)
    return (
        f"{sentence} The 95 % interval of its AP is "
        f"{interval_text(answer.interval.low, answer.interval.high)}, by bootstrap over "
        f"{counted(images, 'validation image')}, adjusted for picking the best of {settings}."
    )


def _searched_text(data: StudyData, best: TrialData, answer: Answer) -> str:
    """Returns the answer of the search without the confirmation."""
    return (
        f"In the search, with one seed for all, trial {best.number} ({params_text(best.params)}) "
        f"was the best of {counted(answer.looked_at, 'setting')}, with "
        f"{score_text(data, best.score)}."
    )


def _runner_up_text(data: StudyData, second: TrialData, answer: Answer) -> str:
    text = _behind_text(f"The runner-up, {_named(second)},", data, second, answer)
    verdict = answer.against.get(second.number)
    if isinstance(verdict, Difference) and verdict.verdict == WITHIN_NOISE:
        text += ": choose between the two by cost, or train both with additional seeds"
    return f"{text}."


def _baseline_text(data: StudyData, base: TrialData, answer: Answer) -> str:
    who, best = f"The baseline, {_named(base)},", data.best
    if best is None or base.epochs >= best.epochs:
        return f"{_behind_text(who, data, base, answer)}."
    best_then = best.score_at(base.epochs)
    then = "" if best_then is None else f" (the best trial then: {score_text(data, best_then)})"
    return (
        f"{who} stopped at {score_text(data, base.score)} after {base.epochs} of {best.epochs} "
        f"epochs{then}; its score is not final."
    )


def _behind_text(who: str, data: StudyData, other: TrialData, answer: Answer) -> str:
    """Returns how far a trial is behind the best one, and whether that is more than noise."""
    gap, verdict = _gap(data, other), answer.against.get(other.number)
    text = f"{who} is {f'{score_text(data, gap)} behind' if gap else 'level with it'}"
    if isinstance(verdict, Difference):
        sure = "within" if verdict.verdict == WITHIN_NOISE else "more than"
        return f"{text}, which is {sure} noise ({_range(verdict)})"
    reason = f": {verdict.reason}" if isinstance(verdict, NoVerdict) else ""
    return f"{text}; whether that is more than noise is unknown{reason}"


def _named(trial: TrialData) -> str:
    return f"trial {trial.number} ({params_text(trial.params)})"


def _against_baseline(data: StudyData, answer: Answer) -> list[str]:
    if data.baseline is None or data.best is None:
        return []
    if data.baseline is data.best:
        return ["The best is the baseline itself: the search found nothing better."]
    return [_baseline_text(data, data.baseline, answer)]


def _verified(data: StudyData) -> list[str]:
    found = verified(data) if data.is_over else None
    if found is None or not found.text:
        return []
    # Do not capitalise the name of a network.
    is_name = found.text.startswith(tuple(map(str, found.left)))
    return [f"{found.text if is_name else capitalised(found.text)}."]


def _progress(data: StudyData) -> list[str]:
    """Returns the progress of a search that is still running."""
    running = data.count(TrialState.RUNNING)
    if not (data.is_searched and (running or not data.is_over)):
        return []
    target = f" of {data.target}" if data.target else ""
    return [
        f"The search is still running (at {data.read:%H:%M}): {data.finished}{target} trials "
        f"finished, {running} running."
    ]


def _without_best(data: StudyData) -> list[str]:
    if not data.trials:
        return ["Start trials with canopy search, then write this page again."]
    return [f"So far: {counts_text(data)}."]


def _score_fact(data: StudyData, best: TrialData, answer: Answer) -> Fact:
    name = "AP on validation" if data.is_ours else capitalised(data.metric)
    if isinstance(answer.interval, NoVerdict):
        return Fact(name, score_text(data, best.score), "no interval" if data.is_ours else "")
    interval = interval_text(answer.interval.low, answer.interval.high)
    return Fact(name, score_text(data, best.score), f"95 % interval {interval}")


def _time_fact(data: StudyData, best: TrialData) -> Fact:
    notes = [f"{best.epochs} epochs from the start"] if best.stages else ["from start to end"]
    device = (data.record or {}).get("training", {}).get("device")
    notes[0] += f" on {device}" if device else ""
    if data.seconds:
        notes.append(f"the whole search trained for {duration_text(data.seconds)}")
    return Fact("Time to train it", duration_text(best.duration_s or 0.0), "; ".join(notes))


def _against_fact(name: str, data: StudyData, other: TrialData, answer: Answer) -> Fact:
    best = data.best
    gap = _gap(data, other)
    setting = f"trial {other.number}, {params_text(other.params)}"
    if best is not None and other.epochs < best.epochs:
        return Fact(
            name, "stopped early", f"{setting}, after {other.epochs} of {best.epochs} epochs"
        )
    verdict = answer.against.get(other.number)
    word = verdict.reversed().verdict if isinstance(verdict, Difference) else "behind"
    range_ = f"; {_range(verdict)}" if isinstance(verdict, Difference) else ""
    if word == WITHIN_NOISE:
        return Fact(name, word, f"{setting}, {score_text(data, gap)} behind{range_}")
    return Fact(name, f"{score_text(data, gap)} {word}", f"{setting}{range_}")


def _gap(data: StudyData, other: TrialData) -> float:
    """Returns the distance between the scores of the best trial and another one."""
    scores = [(trial and trial.score) or 0.0 for trial in (data.best, other)]
    return abs(scores[0] - scores[1])


def _value(data: StudyData, trial: TrialData) -> str:
    name = "AP" if data.is_ours else data.metric
    return f"{name} {score_text(data, trial.score)}"


def _range(verdict: Difference) -> str:
    return f"95 % interval of the difference {signed_interval(verdict)}"
