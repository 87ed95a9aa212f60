"""Charts for pages of others, which show figures in boxes of their own without Canopy's text."""

import html
import textwrap
from collections.abc import Sequence

import plotly.graph_objects as go

from canopy_search.dashboards.charts.theme import ACCENT, plain
from canopy_search.dashboards.html.page import Chart, Key

_LINE_PX = 18
# Unlike the report, these colours must work in light and in dark mode.
_TEXT, _GRID = "#7a8088", "rgba(125,131,139,.28)"
_SCALE = [[0.0, "#eef3f9"], [1.0, ACCENT]]
_TITLE_LETTERS, _LEGEND_LETTERS = 38, 44


def standalone(chart: Chart, figure: go.Figure) -> go.Figure:
    """Gives a chart's figure the chart's title and legend, and the size of its box; returns it."""
    subtitle = figure.layout.title.text
    # The figure's part of the title is already escaped.
    title = chart.title + (f": {html.unescape(subtitle)}" if subtitle else "")
    lines = [
        *(f"<b>{plain(line)}</b>" for line in textwrap.wrap(title, _TITLE_LETTERS)),
        *_legend_lines(chart.legend),
    ]
    figure.update_layout(
        title={
            "text": "<br>".join(lines),
            "font": {"size": 13},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 16, "l": 8},
        },
        legend={"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
        margin={"t": 20 + _LINE_PX * len(lines)},
        font={"size": 12, "color": _TEXT},
        height=None,
        width=None,
        autosize=True,
    )
    # A chart's legend is in the title; without one, the figure's own legend is below it.
    if chart.legend:
        figure.update_layout(showlegend=False)
    figure.update_traces(colorscale=_SCALE, selector={"type": "heatmap"})
    template = figure.layout.template.layout
    template.xaxis.gridcolor = template.yaxis.gridcolor = _GRID
    return figure


def _legend_lines(keys: Sequence[Key]) -> list[str]:
    """Returns the legend of colours and marks, in lines that fit a narrow box."""
    lines: list[list[Key]] = []
    room = 0
    for key in keys:
        letters = len(key.name) + 4
        if letters > room:
            lines.append([])
            room = _LEGEND_LETTERS
        lines[-1].append(key)
        room -= letters
    return ["&nbsp;&nbsp; ".join(_entry(key) for key in line) for line in lines]


def _entry(key: Key) -> str:
    mark = f'<span style="color:{key.colour or ACCENT}">{key.mark}</span>'
    return f'<span style="font-size:12px">{mark} {plain(key.name)}</span>'
