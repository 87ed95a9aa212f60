"""Score against training time, and the Pareto front of both."""

import math

import plotly.graph_objects as go

from canopy_search.dashboards.charts.theme import QUIET, marks_of, new_figure
from canopy_search.dashboards.formatting.tables import score_text
from canopy_search.dashboards.formatting.values import (
    capitalised,
    duration_text,
    params_text,
    time_unit,
)
from canopy_search.dashboards.html.page import Chart, Key
from canopy_search.dashboards.study.model import StudyData, TrialData

_ALIKE = 1.3
"""Times that differ by less than this factor are treated as equal."""
_SPREAD = 30.0
"""Ratio of the longest to the shortest time above which the axis is logarithmic."""


def pareto_front(data: StudyData) -> list[TrialData]:
    """Returns the complete trials that no other one beats in score without taking longer.

    Returns:
        The trials, the fastest first.
    """
    timed = [(t.duration_s, t) for t in data.ranking if t.duration_s is not None]
    front: list[TrialData] = []
    # Of two with equal time, the better comes first; of equals, the earlier.
    for _, trial in sorted(
        timed, key=lambda pair: (pair[0], -data.worth(pair[1].score), pair[1].number)
    ):
        if not front or data.worth(trial.score) > data.worth(front[-1].score):
            front.append(trial)
    return front


def cost_charts(data: StudyData) -> list[Chart]:
    """Returns score against training time, if a complete trial has both."""
    if not pareto_front(data):
        return []
    title = f"{capitalised(data.metric)} against training time"
    legend = [*marks_of(data).legend(), Key("nothing is both faster and better", QUIET, "—")]
    return [Chart("cost", title, sentence(data), [figure(data)], legend=legend)]


def sentence(data: StudyData) -> str:
    """Returns how much faster other good settings are than the best."""
    front = pareto_front(data)
    best, fastest = front[-1], front[0]
    best_s, fastest_s = best.duration_s or 0.0, fastest.duration_s or 0.0
    if len(front) == 1:
        count = len([t for t in data.ranking if t.duration_s is not None])
        if count == 1:
            return f"The only complete trial takes {duration_text(best_s)} to train."
        return (
            f"The best trial is also the fastest of {count} complete ones: it takes "
            f"{duration_text(best_s)}, and longer training gains nothing."
        )
    if best_s < _ALIKE * fastest_s:
        return (
            f"No setting is much faster than the best, which takes {duration_text(best_s)}: the "
            f"fastest takes {duration_text(fastest_s)}, a difference that other load on the "
            "machine may explain."
        )
    text = (
        f"{len(front)} settings are worth considering: each of the others takes longer than one of "
        "these and is no better."
    )
    loss = abs((best.score or 0.0) - (fastest.score or 0.0))
    return (
        f"{text} The best takes {duration_text(best_s)}; the fastest, "
        f"{params_text(fastest.params)}, takes {duration_text(fastest_s)} "
        f"({_times(best_s, fastest_s)}) and is {score_text(data, loss)} worse."
    )


def figure(data: StudyData) -> go.Figure:
    """Draws complete trials, and the Pareto front as a line."""
    timed = [trial for trial in data.ranking if trial.duration_s is not None]
    times_s = [trial.duration_s or 0.0 for trial in timed]
    unit_s, unit = time_unit(max(times_s))
    drawn = new_figure(f"time to train it from the start ({unit})", data.metric)
    front = pareto_front(data)
    drawn.add_scatter(
        x=[(trial.duration_s or 0.0) / unit_s for trial in front],
        y=[trial.score for trial in front],
        mode="lines",
        line={"shape": "hv", "width": 1.5, "color": QUIET},
        name="nothing is both faster and better",
        hoverinfo="skip",
    )
    chosen = {trial.number for trial in front}
    marks_of(data).add_trials(drawn, timed, lambda t: (t.duration_s or 0.0) / unit_s, chosen)
    if min(times_s) > 0 and max(times_s) / min(times_s) > _SPREAD:
        return drawn.update_xaxes(type="log")
    return drawn.update_xaxes(rangemode="tozero")


def _times(longer_s: float, shorter_s: float) -> str:
    if shorter_s <= 0 or not math.isfinite(longer_s / shorter_s):
        return "next to nothing"
    return f"{longer_s / shorter_s:.1f} times as fast"
