"""The studies of a database as a table for a terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from canopy_search.dashboards.formatting.tables import new_table
from canopy_search.dashboards.formatting.values import NONE, duration_text, metric_text, printable
from canopy_search.dashboards.study.listing import ListedStudy
from canopy_search.training.sizes import size_text


def studies_table(studies: Sequence[ListedStudy]) -> Table:
    """Returns one row per study: name, state, trials, best score, workers, time, size, changes."""
    table = new_table()
    table.add_column("study", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("owner", overflow="fold")
    for name in ("trials", "best", "workers", "trained", "stored"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("changed", no_wrap=True)
    for each in studies:
        table.add_row(
            Text(printable(each.data.name)),
            each.state,
            Text(printable(each.usage.owner or NONE)),
            f"{each.data.finished:,}",
            metric_text(each.best),
            str(each.workers or NONE),
            duration_text(each.usage.trained_s) if each.usage.trained_s else NONE,
            size_text(each.usage.stored_bytes) if each.usage.stored_bytes else NONE,
            f"{each.changed:%Y-%m-%d %H:%M}" if each.changed else NONE,
        )
    return table
