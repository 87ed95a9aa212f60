"""Which labels a trial confuses, as a heat map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from canopy_search.dashboards.charts.heatmap import add_shares, heatmap_height_px
from canopy_search.dashboards.charts.theme import new_figure, plain
from canopy_search.dashboards.formatting.values import percent_text
from canopy_search.dashboards.html.page import Chart
from canopy_search.dashboards.study.model import StudyData
from canopy_search.storage.study.predictions import Predictions

_MOST_CONFUSED = 30
_FEWEST_IMAGES = 5
"""Fewest images with a label for which the sentence mentions a share."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """Which labels are predicted for images that do not have them.

    Attributes:
        labels: those that validation images have, the most frequent first.
        recall: (labels,), share of the images with a label for which it is predicted.
        wrong: (labels, labels), of the images with the row's label and without the column's, the
            share for which the column's is predicted; NaN if there are none, and on the diagonal.
        images: (labels, labels), number of images with the row's label and without the column's.
    """

    labels: Sequence[str]
    recall: NDArray[np.float64]
    wrong: NDArray[np.float64]
    images: NDArray[np.int64]


def confusion(predictions: Predictions) -> Confusion:
    """Returns how labels are confused; a label is predicted from a probability of one half.

    A label that an image has is never an error, so labels that often occur together and are
    correctly predicted together do not look confused.
    """
    has = predictions.validation.targets == 1
    has_not = predictions.validation.targets == 0
    predicted = predictions.logits >= 0
    counts = has.sum(axis=0)
    kept = [int(at) for at in np.argsort(-counts, kind="stable") if counts[at]]
    has, has_not, predicted = has[:, kept], has_not[:, kept], predicted[:, kept]
    images = has.astype(np.int64).T @ has_not.astype(np.int64)
    mistaken = has.astype(np.int64).T @ (predicted & has_not).astype(np.int64)
    wrong = np.divide(mistaken, images, out=np.full(images.shape, np.nan), where=images > 0)
    np.fill_diagonal(wrong, np.nan)
    labels = [predictions.validation.labels[at] for at in kept]
    return Confusion(labels, (has & predicted).sum(axis=0) / has.sum(axis=0), wrong, images)


def confusion_charts(data: StudyData) -> list[Chart]:
    """Returns the confusion of the best trial's labels, or why there is none."""
    best = data.best
    if best is None or not data.is_ours:
        return []
    title = "Which labels the best trial confuses"
    predictions = data.predictions.get(best.number)
    if predictions is None:
        text = f"The predictions of trial {best.number} were not kept."
        return [Chart("confusion", title, text)]
    return [confusion_chart(predictions, title)]


def confusion_chart(predictions: Predictions, title: str) -> Chart:
    """Returns the confusion of a trial's labels."""
    found = confusion(predictions)
    if len(found.labels) < 2:
        return Chart("confusion", title, "A single label cannot be confused.")
    height_px = heatmap_height_px(min(len(found.labels), _MOST_CONFUSED))
    text, drawn = confusion_sentence(found), confusion_figure(found)
    return Chart("confusion", title, text, [drawn], height_px)


def confusion_sentence(found: Confusion) -> str:
    """Returns which labels are confused most, and which is missed most."""
    pairs = [
        (found.wrong[row, column], found.labels[row], found.labels[column])
        for row, column in zip(*np.nonzero(found.images >= _FEWEST_IMAGES), strict=True)
        if row != column and not np.isnan(found.wrong[row, column])
    ]
    text = (
        "Each row holds the images with one label; a cell is the share of those without the "
        "column's label for which it is predicted, with a probability of at least one half."
    )
    if pairs:
        share, row, column = max(pairs, key=lambda pair: pair[0])
        if share == 0:
            text += " No label is predicted wrongly."
        else:
            text += (
                f" The most frequent error: {percent_text(share)} of the images with {row} are "
                f"predicted to have {column}."
            )
    lowest = int(found.recall.argmin())
    return (
        f"{text} The most missed label is {found.labels[lowest]}: "
        f"{percent_text(found.recall[lowest])} of its images are found."
    )


def confusion_figure(found: Confusion) -> go.Figure:
    """Draws the shares; of many labels, only those that are confused most."""
    worst = np.nan_to_num(np.fmax(_highest(found.wrong, 0), _highest(found.wrong, 1)))
    chosen = np.sort(np.argsort(-worst, kind="stable")[:_MOST_CONFUSED])
    labels = [plain(found.labels[at]) for at in chosen]
    wrong = found.wrong[np.ix_(chosen, chosen)]
    rows = [
        f"{label} · found {percent_text(found.recall[at])}"
        for label, at in zip(labels, chosen, strict=True)
    ]
    text = [[_cell_text(found, row, column) for column in chosen] for row in chosen]
    drawn = new_figure("label predicted wrongly (%)", "label of the images")
    return add_shares(drawn, rows, labels, wrong, text)


def _cell_text(found: Confusion, i: int, j: int) -> str:
    row, column = plain(found.labels[i]), plain(found.labels[j])
    if i == j:
        return f"{row} is predicted for {percent_text(found.recall[i])} of its images"
    if not found.images[i, j]:
        return f"no image has {row} without {column}"
    return (
        f"of {found.images[i, j]:,} images with {row} and without {column}<br>"
        f"{column} is predicted for {percent_text(found.wrong[i, j])}"
    )


def _highest(wrong: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.asarray(np.nan_to_num(wrong, nan=-1.0).max(axis=axis))
