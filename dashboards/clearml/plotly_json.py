"""Figures and tables as ClearML stores them: Plotly's data and layout as JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from canopy_search.dashboards.clearml.desired_state import Plot


def plot(group: str, series: str, figure: go.Figure) -> Plot:
    """Returns a figure as a task stores it.

    Args:
        group: its title on the page.
        series: distinguishes figures of the same title.
        figure: a Plotly figure.
    """
    return raw_plot(group, series, figure.to_plotly_json())


def table(group: str, series: str, rows: Sequence[Sequence[Any]], title: str = "") -> Plot:
    """Returns a table as the SDK's own `report_table` formats it.

    Args:
        group: its title on the page.
        series: distinguishes tables of the same title.
        rows: the header, then the other rows, all of the same length.
        title: shown above the table.
    """
    header, *others = rows
    font = {"family": "Heebo, verdana, arial, sans-serif"}
    data = {
        "type": "table",
        "header": {
            "values": list(header),
            "align": "left",
            "line": {"width": 0.5, "color": "#d4d6e0"},
            "fill": {"color": "#fff"},
            "font": {**font, "size": 12, "color": "#333"},
        },
        "cells": {
            "height": 30,
            "values": [list(column) for column in zip(*others, strict=True)],
            "align": "left",
            "line": {"color": "white", "width": 1},
            "font": {**font, "size": 14, "color": "#384161"},
        },
    }
    return raw_plot(group, series, {"data": [data], "layout": {"title": title or series}})


def raw_plot(group: str, series: str, figure: Mapping[str, Any]) -> Plot:
    """Returns Plotly's own data and layout as a task stores them."""
    return Plot(group, series, json.dumps(figure, allow_nan=False, default=_plain))


def _plain(value: Any) -> Any:
    """Returns Plotly's tuples and arrays as lists."""
    return value.tolist() if hasattr(value, "tolist") else list(value)
