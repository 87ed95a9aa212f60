"""Canopy's charts for optuna-dashboard, which shows them in boxes of one size without text."""

from canopy_search.dashboards.charts.standalone import standalone
from canopy_search.dashboards.charts.study_charts import chart_sections
from canopy_search.dashboards.study.model import StudyData

_TALLEST_PX = 900
"""Taller charts are unreadable at the height of a box; only the report has them."""


def shown_figures(data: StudyData) -> list[dict[str, str]]:
    """Returns the figures of a study in order, each as an identifier and JSON."""
    return [
        {
            "id": f"{chart.key}-{index}" if index else chart.key,
            "graph_object": standalone(chart, figure).to_json(),
        }
        for section in chart_sections(data)
        for chart in section.charts
        if data.trials and chart.height_px <= _TALLEST_PX
        for index, figure in enumerate(chart.figures)
    ]
