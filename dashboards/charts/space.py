"""The search space: each number against the score, and all parameters at once."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from optuna.distributions import CategoricalDistribution
from scipy.stats import spearmanr

from canopy_search.dashboards.charts.theme import QUIET, marks_of, new_figure, plain
from canopy_search.dashboards.formatting.tables import score_text
from canopy_search.dashboards.formatting.values import counted, signed_text, value_text
from canopy_search.dashboards.html.page import Chart
from canopy_search.dashboards.study.model import StudyData, TrialData

_MOST_NUMBERS = 6
_MOST_AXES = 9
_NAME_Y = 1.11
_FEWEST = 5
"""Fewest complete trials for a statement about good values."""
# From the worst trials to the best: light and thin to dark and wide.
_FIFTHS = (
    ("the other four fifths", "rgba(125,131,139,.28)", 1.0),
    ("the best fifth", "#2a78c2", 1.6),
    ("the best", "#d1570a", 3.0),
)


def space_charts(data: StudyData) -> list[Chart]:
    """Returns a chart for each numeric parameter, and one of all parameters."""
    charts = [
        Chart(
            f"space-{index}",
            f"{name} against {data.metric}",
            slice_sentence(data, name),
            slice_figures(data, name),
            height_px=320,
            legend=marks_of(data).legend(),
        )
        for index, name in enumerate(data.numeric[:_MOST_NUMBERS])
        if data.scored
    ]
    if len(data.distributions) > 1 and len(data.scored) > 1:
        charts.append(
            Chart(
                "parallel",
                "All parameters at once",
                parallel_sentence(data),
                [parallel_figure(data)],
                height_px=440,
            )
        )
    return charts


def slice_sentence(data: StudyData, name: str) -> str:
    """Returns the range of a number in the better half of the complete trials."""
    complete = [trial for trial in data.ranking if name in trial.params]
    stopped = sum(trial.ended_early for trial in data.scored)
    note = (
        f" Hollow markers ({counted(stopped, 'trial')}) stopped early; their scores are not final."
        if stopped
        else ""
    )
    if len(complete) < _FEWEST:
        verb = "is" if len(complete) == 1 else "are"
        return (
            f"{len(complete) or 'None'} of the trials {verb} complete, too few to say which "
            f"{name} is good.{note}"
        )
    values = [float(trial.params[name]) for trial in complete]
    better = values[: max(2, len(values) // 2)]
    low, high = value_text(min(better)), value_text(max(better))
    tried = f"{value_text(min(values))} to {value_text(max(values))}"
    rank = _rank_correlation(values, [data.worth(trial.score) for trial in complete])
    if abs(rank) < 0.3:
        trend = f"shows no clear trend with {name} (rank correlation {signed_text(rank, 2)})"
    else:
        trend = f"tends to {'rise' if rank > 0 else 'fall'} with {name} ({signed_text(rank, 2)})"
    return (
        f"The better half of the {len(complete)} complete trials has {name} from {low} to {high}, "
        f"of {tried} tried; their score {trend}.{note}"
    )


def slice_figures(data: StudyData, name: str) -> list[go.Figure]:
    """Draws a number against the score, with one panel for each category shown by marker."""
    marks = marks_of(data)
    trials = [trial for trial in data.scored if name in trial.params]
    values = list(marks.symbols) if marks.marked else [None]
    scores = [trial.score for trial in trials if trial.score is not None] or [0.0, 1.0]
    pad = 0.06 * (max(scores) - min(scores) or 1.0)
    is_log = bool(getattr(data.distributions[name], "log", False))
    numbers = [float(trial.params[name]) for trial in trials] or [0.0, 1.0]
    panels = []
    for value in values:
        members = [t for t in trials if marks.marked is None or marks.mark_value(t) == value]
        if not members:
            continue
        panel = new_figure(name, data.metric)
        marks.add_trials(panel, members, lambda trial: trial.params[name])
        title = plain(value_text(value)) if marks.marked else None
        panel.update_yaxes(range=[min(scores) - pad, max(scores) + pad])
        if is_log:
            panel.update_xaxes(type="log")
        else:
            room = 0.05 * (max(numbers) - min(numbers) or 1.0)
            panel.update_xaxes(range=[min(numbers) - room, max(numbers) + room])
        if title:
            panel.update_layout(title_text=title, margin_t=44)
        panels.append(panel.update_layout(showlegend=False))
    return panels


def parallel_sentence(data: StudyData) -> str:
    """Returns what the best fifth of the trials have in common."""
    ranked = _ranked(data)
    if len(ranked) < 2 * _FEWEST:
        return (
            f"Each line is one of {len(ranked)} trials; too few to say what the good ones have in "
            "common."
        )
    best = ranked[: max(2, len(ranked) // 5)]
    shared = []
    for name in data.categorical:
        values = {trial.params.get(name) for trial in best}
        if len(values) == 1 and len(data.categorical[name]) > 1:
            shared.append(f"{name} {value_text(values.pop())}")
    text = f"Each line is a trial, from its setting to its {data.metric}. "
    if not shared:
        return f"{text}The best fifth of {len(ranked)} has no category in common."
    return f"{text}The best fifth of {len(ranked)} all have {' and '.join(shared)}."


def parallel_figure(data: StudyData) -> go.Figure:
    """Draws each trial as a line over one axis per parameter and one for the score.

    Plotly's own parallel coordinates need WebGL, which some browsers lack, and do not print.
    """
    names = list(data.distributions)[: _MOST_AXES - 1]
    ranked = [trial for trial in _ranked(data) if all(name in trial.params for name in names)]
    axes = [_Axis(data, name, ranked) for name in names]
    scores = _Axis(data, None, ranked)
    best = ranked[:1]
    fifth = ranked[1 : max(2, len(ranked) // 5)]
    others = ranked[max(2, len(ranked) // 5) :]
    drawn = new_figure("", "")
    for (name, colour, width), members in zip(_FIFTHS, (others, fifth, best), strict=True):
        if not members:
            continue
        lines = [[axis.position(trial) for axis in (*axes, scores)] for trial in members]
        drawn.add_scatter(
            x=[x for _ in lines for x in (*range(len(axes) + 1), None)],
            y=[y for line in lines for y in (*line, None)],
            mode="lines",
            line={"color": colour, "width": width},
            name=plain(name),
            hoverinfo="skip",
        )
    for at, axis in enumerate([*axes, scores]):
        drawn.add_shape(
            type="line", x0=at, x1=at, y0=0, y1=1, line={"color": QUIET, "width": 1}, layer="below"
        )
        name = data.metric if at == len(axes) else names[at]
        for y, text in [*axis.ticks, (_NAME_Y, f"<b>{plain(name)}</b>")]:
            drawn.add_annotation(
                x=at,
                y=y,
                text=text if y == _NAME_Y else plain(text),
                showarrow=False,
                xanchor="left",
                xshift=0 if y == _NAME_Y else 5,
                font={"size": 11},
            )
    return drawn.update_layout(
        xaxis={
            "visible": False,
            "range": [-0.05, len(axes) + 0.6],
        },
        yaxis={"visible": False, "range": [-0.05, 1.16]},
    )


class _Axis:
    """One axis of parallel coordinates; positions are from 0 to 1."""

    def __init__(self, data: StudyData, name: str | None, trials: Sequence[TrialData]) -> None:
        self._name = name
        domain = data.distributions.get(name) if name else None
        self._choices: list[Any] | None = None
        if isinstance(domain, CategoricalDistribution):
            self._choices = list(domain.choices)
            last = max(1, len(self._choices) - 1)
            self.ticks = [(at / last, value_text(c)) for at, c in enumerate(self._choices)]
            return
        self._log = bool(getattr(domain, "log", False))
        numbers = [self._number(trial) for trial in trials] or [0.0]
        self._low, self._high = min(numbers), max(numbers)
        ends = [self._low, self._high]
        texts = [math.exp(end) if self._log else end for end in ends]
        write = value_text if name else (lambda score: score_text(data, score))
        self.ticks = [(0.0, write(texts[0])), (1.0, write(texts[1]))]

    def position(self, trial: TrialData) -> float:
        if self._choices is not None and self._name is not None:
            value = trial.params[self._name]
            known = self._choices.index(value) if value in self._choices else 0
            return known / max(1, len(self._choices) - 1)
        span = self._high - self._low
        return (self._number(trial) - self._low) / span if span else 0.5

    def _number(self, trial: TrialData) -> float:
        value = float((trial.score if self._name is None else trial.params[self._name]) or 0.0)
        return math.log(value) if self._log else value


def _ranked(data: StudyData) -> list[TrialData]:
    """Returns all trials with a score, the best first, stopped ones after complete ones."""
    return sorted(
        data.scored, key=lambda t: (not t.is_complete, -t.epochs, -data.worth(t.score), t.number)
    )


def _rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Returns Spearman's rank correlation; 0 if one sequence is constant."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return 0.0
    return float(spearmanr(first, second).statistic)
