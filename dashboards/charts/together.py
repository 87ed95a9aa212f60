"""Which labels occur together, as a heat map."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from canopy_search.dashboards.charts.heatmap import add_shares, heatmap_height_px
from canopy_search.dashboards.charts.theme import new_figure, plain
from canopy_search.dashboards.formatting.values import counted, percent_text, shortened
from canopy_search.dashboards.html.page import Chart

MOST_DRAWN = 30
"""More labels are not drawn."""
_LETTERS = 24


def together_chart(labels: Sequence[str], has: NDArray[np.bool_]) -> Chart:
    """Returns how often each label occurs with each other one.

    Args:
        labels: at least two, the most frequent first, each with an image.
        has: (images, labels to draw), whether an image has one of the first labels.
    """
    drawn_labels = labels[: has.shape[1]]
    both = np.rint(has.T.astype(np.float32) @ has.astype(np.float32)).astype(np.int64)
    counts = np.diag(both).copy()
    shares = both / counts[:, None]
    np.fill_diagonal(shares, np.nan)
    row, column = divmod(int(np.nanargmax(shares)), len(shares))
    text = (
        "Each row holds the images with one label; a cell is the share of those that also have "
        f"the column's label. The highest: {percent_text(shares[row, column])} of the "
        f"images with {drawn_labels[row]} also have {drawn_labels[column]}."
    )
    if len(labels) > len(drawn_labels):
        text += f" The {len(drawn_labels)} most frequent of {len(labels):,} labels are drawn."
    names = [plain(shortened(label, _LETTERS)) for label in drawn_labels]
    return Chart(
        "together",
        "Labels that occur together",
        text,
        [_figure(names, both, shares)],
        heatmap_height_px(len(names)),
    )


def _figure(
    names: Sequence[str], both: NDArray[np.int64], shares: NDArray[np.float64]
) -> go.Figure:
    text = [
        [
            f"{counted(int(both[i, i]), 'image')} with {one}<br>{int(both[i, j]):,} of them with "
            f"{other}"
            for j, other in enumerate(names)
        ]
        for i, one in enumerate(names)
    ]
    drawn = new_figure("also has the label (%)", "label of the images")
    return add_shares(drawn, names, names, shares, text)
