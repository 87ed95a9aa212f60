"""Canopy's charts for optuna-dashboard, which shows them in boxes of one size without text."""

import html
import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from canopy_search.dashboards.charts.cost import cost_charts
from canopy_search.dashboards.charts.curves import curves_charts
from canopy_search.dashboards.charts.importance import importance_charts
from canopy_search.dashboards.charts.labels import confusion_charts, label_charts
from canopy_search.dashboards.charts.progress import progress_charts
from canopy_search.dashboards.charts.space import space_charts
from canopy_search.dashboards.charts.stage_tree import stage_tree_charts
from canopy_search.dashboards.charts.theme import ACCENT, marks_of, plain
from canopy_search.dashboards.charts.timeline import timeline_charts
from canopy_search.dashboards.html.page import Chart, Key
from canopy_search.dashboards.study.model import StudyData

_TALLEST_PX = 900
"""Taller charts are unreadable at the height of a box; only the report has them."""
_LINE_PX = 18
# Unlike the report, these colours must work in light and in dark mode.
_TEXT, _GRID = "#7a8088", "rgba(125,131,139,.28)"
_SCALE = [[0.0, "#eef3f9"], [1.0, ACCENT]]
_TITLE_LETTERS, _LEGEND_LETTERS = 38, 44


def shown_figures(data: StudyData) -> list[dict[str, str]]:
    """Returns the figures of a study in order, each as an identifier and JSON."""
    return [
        {"id": f"{chart.key}-{index}" if index else chart.key, "graph_object": _json(chart, figure)}
        for chart in _charts(data)
        if chart.height_px <= _TALLEST_PX
        for index, figure in enumerate(chart.figures)
    ]


def _charts(data: StudyData) -> Iterator[Chart]:
    if not data.trials:
        return
    marks = marks_of(data)
    yield from progress_charts(data, marks)
    yield from curves_charts(data, marks)
    yield from cost_charts(data, marks)
    yield from space_charts(data, marks)
    yield from importance_charts(data)
    yield from label_charts(data)
    yield from confusion_charts(data)
    yield from stage_tree_charts(data)
    yield from timeline_charts(data, marks)


def _json(chart: Chart, figure: Any) -> str:
    document = json.loads(figure.to_json())
    layout = document["layout"]
    subtitle = layout.get("title", {}).get("text")
    # The figure's part of the title is already escaped.
    title = chart.title + (f": {html.unescape(subtitle)}" if subtitle else "")
    lines = [
        *(f"<b>{plain(line)}</b>" for line in textwrap.wrap(title, _TITLE_LETTERS)),
        *_legend_lines(chart.legend),
    ]
    layout["title"] = {
        "text": "<br>".join(lines),
        "font": {"size": 13},
        "x": 0,
        "xref": "container",
        "xanchor": "left",
        "y": 1,
        "yanchor": "top",
        "pad": {"t": 16, "l": 8},
    }
    # A chart's legend is in the title; without one, the figure's own legend is below it.
    if chart.legend:
        layout["showlegend"] = False
    layout["legend"] = {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"}
    margin = layout.get("margin", {})
    layout["margin"] = {**margin, "t": 20 + _LINE_PX * len(lines)}
    for trace in document["data"]:
        if trace["type"] == "heatmap":
            trace["colorscale"] = _SCALE
    for axis in ("xaxis", "yaxis"):
        layout["template"]["layout"][axis]["gridcolor"] = _GRID
    layout["font"] = {"size": 12, "color": _TEXT}
    layout.pop("height", None)
    layout.pop("width", None)
    layout["autosize"] = True
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


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
