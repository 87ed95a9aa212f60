"""Learning curves of trials, and where they were stopped."""

from collections import Counter
from collections.abc import Iterable, Sequence

import plotly.graph_objects as go

from canopy_search.dashboards.charts.theme import (
    FAINT,
    QUIET,
    marks_of,
    new_figure,
    plain,
    trial_text,
)
from canopy_search.dashboards.formatting.tables import score_text
from canopy_search.dashboards.formatting.values import listed_text, params_text, percent_text
from canopy_search.dashboards.html.page import Chart
from canopy_search.dashboards.study.model import StudyData, TrialData

_MOST_COMPLETE = 60
"""Number of best complete trials drawn in colour; others are drawn like stopped ones."""


def curves_charts(data: StudyData) -> list[Chart]:
    """Returns the learning curves, if any trial reported intermediate values."""
    return (
        [Chart("curves", "Learning curves", sentence(data), [figure(data)], height_px=460)]
        if any(len(trial.curve) > 0 for trial in data.trials)
        else []
    )


def sentence(data: StudyData) -> str:
    """Returns where trials were stopped, and whether the best was still improving."""
    curved = [trial for trial in data.trials if trial.curve]
    stopped = Counter(trial.epochs for trial in curved if trial.ended_early)
    complete = sum(trial.is_complete for trial in curved)
    text = f"{complete} of {len(curved)} trials were fully trained"
    if stopped:
        where = listed_text(
            [f"{count} after {data.step} {epoch}" for epoch, count in sorted(stopped.items())]
        )
        text += f"; stopped: {where}"
    trained = sum(len(trial.curve) for trial in curved)
    planned = data.planned_epochs * len(curved)
    if stopped and planned > trained:
        text += f", which skipped {percent_text(1 - trained / planned)} of all {data.step}s"
    return f"{text}. {_ending(data)}".strip()


def _ending(data: StudyData) -> str:
    """Returns whether more epochs might help the best trial."""
    best = data.best
    if best is None or len(best.curve) < 3:
        return ""
    scores = [data.worth(score) for _, score in best.curve]
    last, gain = scores[-1] - scores[-2], scores[-1] - scores[0]
    top = max(range(len(scores)), key=lambda index: scores[index])
    if top < len(scores) - 1:
        return (
            f"The best trial was better after {data.step} {best.curve[top][0]} "
            f"({score_text(data, best.curve[top][1])}) than after its last one: fewer "
            f"{data.step}s may be enough."
        )
    if gain > 0 and last > 0.05 * gain:
        return (
            f"The best trial still gained {score_text(data, last)} in its last {data.step}: "
            f"more {data.step}s may help."
        )
    return f"The best trial had nearly stopped improving by its last {data.step}."


def figure(data: StudyData) -> go.Figure:
    """Draws stopped trials faintly with a cross at the end, complete ones in colour."""
    drawn, marks = new_figure(data.step, data.metric), marks_of(data)
    complete = [t for t in data.ranking if t.curve][:_MOST_COMPLETE]
    leader = data.leader
    chosen = {trial.number for trial in complete}
    others = [t for t in data.trials if t.curve and t.number not in chosen and t is not leader]
    _add_lines(drawn, others, "stopped or running", FAINT, 1.0)
    ends = [trial for trial in others if trial.ended_early]
    if ends:
        drawn.add_scatter(
            x=[trial.epochs for trial in ends],
            y=[trial.score for trial in ends],
            mode="markers",
            name="pruned or paused here",
            marker={"symbol": "x-thin", "size": 7, "line": {"width": 1.5, "color": QUIET}},
            text=[trial_text(data, trial) for trial in ends],
            hovertemplate="%{text}<extra></extra>",
        )
    for name, colour, members in marks.by_colour(t for t in complete if t is not leader):
        _add_lines(drawn, members, plain(name), colour, 1.5)
    if leader is not None and leader.curve:
        drawn.add_scatter(
            x=[epoch for epoch, _ in leader.curve],
            y=[score for _, score in leader.curve],
            mode="lines+markers",
            name=f"leader: trial {leader.number}, {plain(params_text(leader.params))}",
            line={"width": 3.5, "color": marks.colour(leader)},
            marker={"size": 8, "symbol": marks.symbol(leader)},
            hovertemplate="%{x}: %{y:.4f}<extra></extra>",
        )
    return drawn.update_xaxes(dtick=1 if data.planned_epochs <= 20 else None)


def _add_lines(
    drawn: go.Figure, trials: Sequence[TrialData], name: str, colour: str, width: float
) -> None:
    """Draws many curves as one trace with gaps, since a thousand traces are slow."""
    if not trials:
        return
    drawn.add_scatter(
        x=_gapped([epoch for epoch, _ in trial.curve] for trial in trials),
        y=_gapped([score for _, score in trial.curve] for trial in trials),
        mode="lines",
        name=name,
        line={"color": colour, "width": width},
        hoverinfo="skip",
    )


def _gapped(lines: Iterable[Sequence[float]]) -> list[float | None]:
    return [value for line in lines for value in (*line, None)]
