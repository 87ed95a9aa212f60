"""All charts of a study, by the section of a page that they belong to."""

from canopy_search.dashboards.charts.confirmed import confirmed_charts, confirmed_table
from canopy_search.dashboards.charts.confusion import confusion_charts
from canopy_search.dashboards.charts.cost import cost_charts
from canopy_search.dashboards.charts.curves import curves_charts
from canopy_search.dashboards.charts.importance import importance_charts
from canopy_search.dashboards.charts.labels import label_charts
from canopy_search.dashboards.charts.progress import progress_charts
from canopy_search.dashboards.charts.space import space_charts
from canopy_search.dashboards.charts.stage_tree import stage_tree_charts
from canopy_search.dashboards.charts.timeline import timeline_charts
from canopy_search.dashboards.formatting.tables import spent_text
from canopy_search.dashboards.html.page import Section
from canopy_search.dashboards.study.model import StudyData


def chart_sections(data: StudyData) -> list[Section]:
    """Returns the sections of a study's page that have charts, in order."""
    spent = [f"{spent_text(data)}."] if data.is_ours and data.trials else []
    space = [*space_charts(data), *importance_charts(data)]
    labels = [*label_charts(data), *confusion_charts(data)]
    sections = [
        Section("progress", "The search", spent, progress_charts(data)),
        Section("learning", "Learning", charts=curves_charts(data)),
        Section("price", "Quality and time", charts=cost_charts(data)),
        Section("space", "The space", charts=space),
        Section("by-label", "Labels", charts=labels),
        Section("sharing", "Shared epochs", charts=stage_tree_charts(data)),
        Section("time", "Time", charts=timeline_charts(data)),
    ]
    found = [section for section in sections if section.charts]
    if data.confirmation is None:
        return found
    charts, table = confirmed_charts(data.confirmation), confirmed_table(data.confirmation)
    title = "Confirmed with additional seeds"
    return [Section("confirmed", title, charts=charts, tables=[table]), *found]
