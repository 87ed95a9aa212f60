"""Figures and tables of a task as ClearML stores them: Plotly's data and layout as JSON.

References:
    clearml/automation/optimization.py, `HyperParameterOptimizer._report_completed_status`: titles,
    series and columns of the plots and tables that ClearML's users know.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from canopy_search.dashboards.charts.confusion import confusion_chart
from canopy_search.dashboards.charts.curves import curves_charts
from canopy_search.dashboards.charts.labels import label_charts, trial_label_chart
from canopy_search.dashboards.charts.progress import progress_charts
from canopy_search.dashboards.charts.standalone import standalone
from canopy_search.dashboards.clearml.desired_state import OBJECTIVE, Plot
from canopy_search.dashboards.clearml.links import Pages
from canopy_search.dashboards.formatting.tables import counts_text, spent_text
from canopy_search.dashboards.formatting.values import ap_text, params_text
from canopy_search.dashboards.html.page import Chart
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.storage.study.predictions import Predictions

_FONT = {"family": "Heebo, verdana, arial, sans-serif"}


def study_plots(data: StudyData, pages: Pages) -> list[Plot]:
    """Returns Canopy's charts over all trials, and what ClearML's own optimizer shows."""
    plots = [
        *_charts("AP over trials", "study", progress_charts(data)[:1]),
        *_charts("Learning curves", "study", curves_charts(data)),
        *_charts("AP per label", "best trial", label_charts(data)),
    ]
    reported = [trial for trial in data.trials if trial.val_ap is not None]
    ranked = sorted(reported, key=lambda trial: (-data.worth(trial.val_ap), trial.number))
    if not ranked:
        return plots
    names = sorted({name for trial in ranked for name in trial.params})
    totals = [["", ""], ["trials", counts_text(data)], ["cost", spent_text(data)]]
    return [
        *plots,
        _objective(reported),
        _summary(ranked, names, pages),
        _parallel(ranked, names, pages),
        _table("totals", "study", totals, title=f"study {data.name}"),
    ]


def label_plots(trial: TrialData) -> list[Plot]:
    """Returns AP of each label after a trial's last epoch as a figure and as a table."""
    chart = trial_label_chart(trial)
    if chart is None:
        return []
    per_label: Mapping[str, float | None] = trial.stages[-1].metrics["val_ap_per_label"]
    rows = [["label", "AP"], *([label, ap_text(ap)] for label, ap in per_label.items())]
    return [
        *_charts("AP per label", "bars", [chart]),
        _table("AP per label", "table", rows),
    ]


def confusion_plots(predictions: Predictions, trial: TrialData) -> list[Plot]:
    """Returns which labels a trial confuses, as a heat map."""
    chart = confusion_chart(predictions, f"Which labels trial {trial.number} confuses")
    return _charts("Labels given", "confusion", [chart])


def _charts(group: str, series: str, charts: Iterable[Chart]) -> list[Plot]:
    return [
        Plot(group, series, standalone(chart, figure).to_json())
        for chart in charts
        for figure in chart.figures
    ]


def _plot(group: str, series: str, data: Mapping[str, Any], layout: Mapping[str, Any]) -> Plot:
    document = {"data": [data], "layout": layout}
    return Plot(group, series, json.dumps(document, allow_nan=False))


def _table(group: str, series: str, rows: Sequence[Sequence[Any]], title: str = "") -> Plot:
    """Returns a table as the SDK's own `report_table` formats it.

    Args:
        group: its title on the page.
        series: distinguishes tables of the same title.
        rows: the header, then the other rows, all of the same length.
        title: shown above the table.
    """
    header, *others = rows
    data = {
        "type": "table",
        "header": {
            "values": list(header),
            "align": "left",
            "line": {"width": 0.5, "color": "#d4d6e0"},
            "fill": {"color": "#fff"},
            "font": {**_FONT, "size": 12, "color": "#333"},
        },
        "cells": {
            "height": 30,
            "values": [list(column) for column in zip(*others, strict=True)],
            "align": "left",
            "line": {"color": "white", "width": 1},
            "font": {**_FONT, "size": 14, "color": "#384161"},
        },
    }
    return _plot(group, series, data, {"title": title or series})


def _objective(trials: Sequence[TrialData]) -> Plot:
    data = {
        "type": "scatter",
        "mode": "markers",
        "name": OBJECTIVE,
        "x": [trial.number for trial in trials],
        "y": [trial.val_ap for trial in trials],
        "text": [params_text(trial.params) for trial in trials],
    }
    layout = {
        "title": "Optimization Objective",
        "xaxis": {"title": {"text": "job #"}},
        "yaxis": {"title": {"text": "objective"}},
    }
    return _plot("Optimization Objective", OBJECTIVE, data, layout)


def _summary(ranked: Sequence[TrialData], names: Sequence[str], pages: Pages) -> Plot:
    rows: list[list[Any]] = [["task id", "objective", "iteration", "trial", *names, "status"]]
    for trial in ranked:
        task, url = pages.task_ids.get(trial.number, ""), pages.task(trial.number)
        rows.append(
            [
                Markup('<a href="{}"> {} </a>').format(url, task) if url else task,
                trial.val_ap,
                len(trial.metrics),
                trial.number,
                *(trial.params.get(name, "") for name in names),
                trial.state.lower(),
            ]
        )
    return _table("summary", "job", rows, title=f"objective: {OBJECTIVE}")


def _parallel(ranked: Sequence[TrialData], names: Sequence[str], pages: Pages) -> Plot:
    columns: list[tuple[str, list[Any]]] = [
        ("task id", [f"{pages.task_ids.get(t.number, '')[:6]}..." for t in ranked]),
        ("iteration", [len(trial.metrics) for trial in ranked]),
        ("trial", [trial.number for trial in ranked]),
        *((name, [trial.params.get(name, "") for trial in ranked]) for name in names),
        (OBJECTIVE, [trial.val_ap for trial in ranked]),
    ]
    colours = [trial.val_ap for trial in ranked]
    data = {
        "type": "parcoords",
        "line": {"colorscale": "Viridis", "reversescale": False, "color": colours},
        "dimensions": [_dimension(name, values) for name, values in columns],
    }
    return _plot("Parallel Coordinates", "", data, {})


def _dimension(name: str, values: list[Any]) -> dict[str, Any]:
    """Returns an axis: numbers as they are, each word at its own position."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return {"label": name, "values": values}
    words = sorted({str(value) for value in values})
    positions = {word: index for index, word in enumerate(words)}
    return {
        "label": name,
        "values": [positions[str(value)] for value in values],
        "tickvals": list(positions.values()),
        "ticktext": words,
    }
