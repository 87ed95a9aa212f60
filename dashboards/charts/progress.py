"""Scores of trials over their numbers and over the training time spent."""

from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from canopy_search.dashboards.charts.theme import QUIET, marks_of, new_figure
from canopy_search.dashboards.formatting.tables import score_text
from canopy_search.dashboards.formatting.values import (
    capitalised,
    counted,
    duration_text,
    percent_text,
    time_unit,
)
from canopy_search.dashboards.html.page import Chart, Key
from canopy_search.dashboards.study.model import StudyData, TrialData, training_s

_BEST_SO_FAR = [Key("best so far", QUIET, "—")]


def best_so_far(data: StudyData, trials: Sequence[TrialData]) -> list[TrialData]:
    """Returns the complete trials that were the best so far, in the given order."""
    rising: list[TrialData] = []
    for trial in trials:
        if trial.is_complete and trial.score is not None:
            best = rising[-1].score if rising else None
            if best is None or data.worth(trial.score) > data.worth(best):
                rising.append(trial)
    return rising


def spent_s(data: StudyData) -> dict[int, float]:
    """Returns trial number → training time of the whole study until its last report, in seconds.

    Only trials that trained or replayed epochs are included.
    """
    events = sorted(
        (stage.recorded, trial.number, training_s(stage.metrics) if stage.times_trained else 0.0)
        for trial in data.trials
        for stage in trial.stages
    )
    total, spent = 0.0, {}
    for _, number, seconds in events:
        total += seconds
        spent[number] = total
    return spent


def progress_charts(data: StudyData) -> list[Chart]:
    """Returns scores over trials, and over the time spent if it is known."""
    legend = marks_of(data).legend() + _BEST_SO_FAR if data.scored else ()
    metric, text = capitalised(data.metric), over_trials_sentence(data)
    by_number = [_figure(data, "trial", lambda trial: trial.number, data.scored)]
    drawn = by_number if data.scored else []
    charts = [Chart("over-trials", f"{metric} over trials", text, drawn, legend=legend)]
    spent = spent_s(data)
    if spent and data.scored:
        unit_s, unit = time_unit(max(spent.values()))
        timed = sorted((t for t in data.scored if t.number in spent), key=lambda t: spent[t.number])
        x, text = f"training time spent so far ({unit})", over_time_sentence(data, spent)
        by_time = [_figure(data, x, lambda trial: spent[trial.number] / unit_s, timed)]
        charts.append(Chart("over-time", f"{metric} over time spent", text, by_time, legend=legend))
    return charts


def over_trials_sentence(data: StudyData) -> str:
    """Returns when the best trial was found and how many followed it."""
    if not data.scored:
        return "No trial has reported anything yet."
    rising = best_so_far(data, data.trials)
    if not rising:
        return (
            f"{counted(len(data.scored), 'trial')} reported a score, none is complete yet, so "
            "there is no best trial."
        )
    best = rising[-1]
    later = sum(trial.number > best.number for trial in data.scored)
    text = (
        f"The best of {len(data.scored)} trials is trial {best.number}, with "
        f"{score_text(data, best.score)}"
    )
    if later == 0:
        return f"{text}; it is the latest one, so additional trials may find something better."
    many = later >= max(10, len(data.scored) // 3)
    conclusion = "suggests" if many else "is too few to say"
    were = "trial after it was" if later == 1 else "trials after it were"
    return (
        f"{text}; the {later} {were} no better, which {conclusion} that the search has levelled "
        "off."
    )


def over_time_sentence(data: StudyData, spent: dict[int, float]) -> str:
    """Returns how much of the time passed before the first complete and the best trial."""
    total = max(spent.values())
    timed = sorted((t for t in data.trials if t.number in spent), key=lambda t: spent[t.number])
    rising = best_so_far(data, timed)
    if not rising:
        return f"{duration_text(total)} of training so far, and no trial is complete yet."
    best = rising[-1]
    at = spent[best.number]
    text = (
        f"All training took {duration_text(total)}; the best trial was found after "
        f"{duration_text(at)} ({percent_text(at / total)})"
        if total
        else "Nothing had to be trained"
    )
    first = rising[0]
    if len(rising) > 1 and first.score is not None and best.score is not None:
        gain = abs(best.score - first.score)
        text += (
            f", and the first complete one, after {duration_text(spent[first.number])}, was "
            f"{score_text(data, gain)} behind it"
        )
    return text + "."


def _figure(
    data: StudyData, x: str, position: Callable[[TrialData], float], trials: Sequence[TrialData]
) -> go.Figure:
    """Draws trials at their positions on the axis `x`, and the best so far as a line."""
    figure = new_figure(x, data.metric)
    marks_of(data).add_trials(figure, trials, position)
    rising = best_so_far(data, trials)
    if rising:
        end = max(position(trial) for trial in trials)
        figure.add_scatter(
            x=[*(position(trial) for trial in rising), end],
            y=[*(trial.score for trial in rising), rising[-1].score],
            mode="lines",
            name="best so far",
            line={"shape": "hv", "width": 1.5, "color": QUIET},
            hoverinfo="skip",
        )
    return figure
