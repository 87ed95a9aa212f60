"""A share for each pair of labels, as a heat map."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from canopy_search.dashboards.charts.theme import SCALE

_MOST_WRITTEN = 14


def heatmap_height_px(labels: int) -> int:
    """Returns the height of a heat map of that many labels."""
    return max(260, 150 + 30 * labels)


def add_shares(
    drawn: go.Figure,
    rows: Sequence[str],
    columns: Sequence[str],
    shares: NDArray[np.float64],
    text: Sequence[Sequence[str]],
) -> go.Figure:
    """Draws a share for each pair of labels as a heat map of percentages; returns the figure.

    Args:
        drawn: the figure.
        rows: escaped names, from top to bottom.
        columns: escaped names, from left to right.
        shares: (rows, columns), from 0 to 1, NaN for a cell that stays empty.
        text: the same shape, shown while the pointer is on a cell.
    """
    is_written = len(columns) <= _MOST_WRITTEN
    drawn.add_heatmap(
        x=columns,
        y=rows,
        z=[[None if np.isnan(cell) else 100 * cell for cell in row] for row in shares],
        zmin=0,
        colorscale=SCALE,
        xgap=2,
        ygap=2,
        hoverongaps=False,
        showscale=not is_written,
        colorbar={"title": {"text": "%"}, "thickness": 10, "outlinewidth": 0},
        hovertext=text,
        hovertemplate="%{hovertext}<extra></extra>",
        texttemplate="%{z:.0f}" if is_written else None,
    )
    drawn.update_xaxes(type="category", showgrid=False, tickangle=-45, dtick=1)
    return drawn.update_yaxes(type="category", showgrid=False, autorange="reversed")
