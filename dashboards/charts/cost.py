"""Score against training time, and the Pareto front of both."""

import math

import plotly.graph_objects as go

from canopy_search.dashboards.charts.theme import (
    QUIET,
    Marks,
    legend_of,
    new_figure,
    plain,
    trial_text,
)
from canopy_search.dashboards.formatting.tables import duration_text, params_text, score_text
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


def cost_charts(data: StudyData, marks: Marks) -> list[Chart]:
    """Returns score against training time, if a complete trial has both."""
    if not pareto_front(data):
        return []
    title = f"{data.metric[:1].upper()}{data.metric[1:]} against training time"
    legend = [*legend_of(data, marks), Key("nothing is both faster and better", QUIET, "—")]
    return [Chart("cost", title, sentence(data), [figure(data, marks)], legend=legend)]


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


def figure(data: StudyData, marks: Marks) -> go.Figure:
    """Draws complete trials, and the Pareto front as a line."""
    timed = [trial for trial in data.ranking if trial.duration_s is not None]
    longest = max(trial.duration_s or 0.0 for trial in timed)
    unit_s, unit = next(
        (u for u in ((3600.0, "h"), (60.0, "min"), (1.0, "s")) if longest > 2 * u[0]), (1.0, "s")
    )
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
    for name, colour, members in marks.by_colour(timed):
        drawn.add_scatter(
            x=[(trial.duration_s or 0.0) / unit_s for trial in members],
            y=[trial.score for trial in members],
            mode="markers",
            name=plain(name),
            marker={
                "color": colour,
                "symbol": [marks.symbol(trial) for trial in members],
                "size": [13 if trial.number in chosen else 8 for trial in members],
                "line": {"width": 0},
                "opacity": [1.0 if trial.number in chosen else 0.6 for trial in members],
            },
            text=[
                f"{trial_text(data, trial)} · {duration_text(trial.duration_s or 0.0)}"
                for trial in members
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    shortest = min(trial.duration_s or 0.0 for trial in timed)
    if shortest > 0 and longest / shortest > _SPREAD:
        return drawn.update_xaxes(type="log")
    return drawn.update_xaxes(rangemode="tozero")


def _times(longer_s: float, shorter_s: float) -> str:
    if shorter_s <= 0 or not math.isfinite(longer_s / shorter_s):
        return "next to nothing"
    return f"{longer_s / shorter_s:.1f} times as fast"
