"""A study → Plotly figures, as lists and without a template, so that any Plotly can show them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from optuna.trial import TrialState

from canopy_search.dashboards.formatting.values import ap_text, params_text
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.storage.study.predictions import Predictions
from canopy_search.storage.study.trial_attributes import PAUSED

# Okabe and Ito's colours, which colour-blind readers can distinguish.
BLUE, ORANGE, GREEN, RED, SKY, PURPLE, YELLOW, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#F0E442",
    "#000000",
)
GREY = "#BBBBBB"
# Each state has its own shape too, for print in black and white.
_STATES = {
    TrialState.COMPLETE.name: ("complete", BLUE, "circle"),
    TrialState.PRUNED.name: ("pruned", ORANGE, "x"),
    TrialState.FAIL.name: ("failed", RED, "triangle-down"),
    PAUSED: ("paused", PURPLE, "square"),
}
_UNDER_WAY = ("under way", SKY, "diamond")
_FINALIST_COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE)
_MOST_CURVES = 200

FINALISTS = 3
"""Default number of finalists."""


def ap_over_trials(summary: StudyData) -> go.Figure:
    """Shows the validation AP of each trial, and the best AP so far.

    A pruned trial is shown with the AP of its last epoch, which is not its final AP.
    """
    figure = go.Figure()
    reported = [trial for trial in summary.trials if trial.val_ap is not None]
    for word, colour, symbol in [*_STATES.values(), _UNDER_WAY]:
        trials = [trial for trial in reported if _marker(trial)[0] == word]
        if trials:
            figure.add_scatter(
                x=[trial.number for trial in trials],
                y=[trial.val_ap for trial in trials],
                mode="markers",
                name=word,
                marker={"color": colour, "symbol": symbol, "size": 8},
                text=[_hover(trial) for trial in trials],
                hovertemplate="%{text}<extra></extra>",
            )
    best_so_far = _best_so_far(summary)
    if best_so_far:
        figure.add_scatter(
            x=[trial.number for trial in best_so_far],
            y=[trial.val_ap for trial in best_so_far],
            mode="lines",
            name="best so far",
            line={"color": BLACK, "shape": "hv", "width": 1.5},
            text=[_hover(trial) for trial in best_so_far],
            hovertemplate="best so far: %{text}<extra></extra>",
        )
    title = f"{summary.name}: validation AP over trials"
    return _titled(figure, title, "trial", "validation AP")


def learning_curves(summary: StudyData, finalists: int = FINALISTS) -> go.Figure:
    """Shows validation AP after each epoch: the finalists in colour, all others in grey."""
    best = summary.best_settings[:finalists]
    chosen = {trial.number for trial in best}
    others = [trial for trial in summary.trials if trial.metrics and trial.number not in chosen]
    figure = go.Figure()
    for index, trial in enumerate(others[-_MOST_CURVES:]):
        _add_curve(
            figure, trial, {"color": GREY, "width": 1}, name="other trials", legend=index == 0
        )
    for colour, trial in zip(_cycle(_FINALIST_COLOURS, len(best)), best, strict=True):
        name = f"trial {trial.number}: {params_text(trial.params)}"
        _add_curve(figure, trial, {"color": colour, "width": 2.5}, name=name, legend=True)
    title = f"{summary.name}: learning curves"
    return _titled(figure, title, "epoch", "validation AP")


def label_ap(trial: TrialData) -> go.Figure:
    """Shows the validation AP of each label after a trial's last epoch, the best label first.

    A label without a positive example in validation has no AP and is skipped.
    """
    per_label: Mapping[str, float | None] = (
        trial.metrics[-1].get("val_ap_per_label") or {} if trial.metrics else {}
    )
    known = sorted(
        ((ap, label) for label, ap in per_label.items() if ap is not None),
        key=lambda pair: -pair[0],
    )
    figure = go.Figure()
    figure.add_bar(
        x=[label for _, label in known],
        y=[ap for ap, _ in known],
        marker={"color": BLUE},
        hovertemplate="%{x}: AP %{y:.4f}<extra></extra>",
    )
    title = f"trial {trial.number}: AP of each label, mean {ap_text(trial.val_ap)}"
    return _titled(
        figure,
        title,
        "label",
        "validation AP",
        x_axis={"type": "category"},
        y_axis={"range": [0, 1]},
    )


def label_confusion(predictions: Predictions, trial: TrialData) -> go.Figure:
    """Shows which labels a trial's model predicts for images that have a label.

    An image has several labels, so this is no confusion matrix whose rows sum to one: a cell is the
    share of the images with the row's label that are predicted the column's. The diagonal is
    recall. Other cells include images that have both labels; the hover text shows their
    share.

    Args:
        predictions: predictions of the trial's last epoch; a label is predicted if its probability
            is at least one half.
        trial: the trial.
    """
    labels = [str(label) for label in predictions.validation.labels]
    shares, together, images = confusion_shares(predictions)

    def hover(row: int, column: int) -> str:
        if not images[row]:
            return f"no image has {labels[row]}"
        of_images = f"of {images[row]:,} images with {labels[row]}"
        text = f"{of_images} {shares[row, column]:.1%} get {labels[column]}"
        return text if row == column else f"{text}; {together[row, column]:.1%} have it"

    indices = range(len(labels))
    text = [[hover(row, column) for column in indices] for row in indices]
    figure = go.Figure()
    figure.add_heatmap(
        x=labels,
        y=labels,
        z=[
            [None if np.isnan(share) else round(float(share), 4) for share in row] for row in shares
        ],
        zmin=0,
        zmax=1,
        colorscale="Cividis",
        colorbar={"title": {"text": "share"}},
        text=text,
        hovertemplate="%{text}<extra></extra>",
    )
    title = f"trial {trial.number}: labels that images with a label get (validation)"
    return _titled(
        figure,
        title,
        "label that is given",
        "label that the image has",
        x_axis={"type": "category"},
        y_axis={"type": "category", "autorange": "reversed"},
    )


def confusion_shares(
    predictions: Predictions,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Returns which labels are predicted for images that have a label.

    Returns:
        (labels, labels): the share of the images with the row's label that are predicted the
        column's, NaN in the rows of labels that no image has; (labels, labels): the share that
        have the column's; and (labels,): the number of images with each label.
    """
    has = predictions.validation.targets.astype(np.float64)
    predicted = (predictions.logits >= 0).astype(np.float64)
    images = has.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (has.T @ predicted) / images[:, None]
        together = (has.T @ has) / images[:, None]
    return shares, together, images.astype(np.int64)


def _add_curve(
    figure: go.Figure, trial: TrialData, line: dict[str, Any], *, name: str, legend: bool
) -> None:
    figure.add_scatter(
        x=[metrics["epoch"] for metrics in trial.metrics],
        y=[metrics["val_ap"] for metrics in trial.metrics],
        mode="lines+markers",
        marker={"size": 5},
        line=line,
        name=name,
        legendgroup=name,
        showlegend=legend,
        hovertemplate=f"trial {trial.number}, epoch %{{x}}: AP %{{y:.4f}}<extra></extra>",
    )


def _best_so_far(summary: StudyData) -> list[TrialData]:
    """Returns the complete trials that were better than all earlier ones, by number."""
    complete = sorted(summary.ranking, key=lambda trial: trial.number)
    rising: list[TrialData] = []
    for trial in complete:
        if not rising or (trial.val_ap or 0.0) > (rising[-1].val_ap or 0.0):
            rising.append(trial)
    return rising


def _marker(trial: TrialData) -> tuple[str, str, str]:
    return _STATES.get(trial.state, _UNDER_WAY)


def _hover(trial: TrialData) -> str:
    epochs = len(trial.metrics)
    word = "epoch" if epochs == 1 else "epochs"
    return (
        f"trial {trial.number}, {_marker(trial)[0]}: AP {ap_text(trial.val_ap)} after {epochs} "
        f"{word}<br>{params_text(trial.params)}"
    )


def _cycle(colours: Sequence[str], length: int) -> list[str]:
    return [colours[index % len(colours)] for index in range(length)]


def _titled(
    figure: go.Figure,
    title: str,
    x: str,
    y: str,
    *,
    x_axis: Mapping[str, Any] | None = None,
    y_axis: Mapping[str, Any] | None = None,
) -> go.Figure:
    return figure.update_layout(
        template=None,
        title={"text": title},
        xaxis={"title": {"text": x}, "automargin": True, **(x_axis or {})},
        yaxis={"title": {"text": y}, "automargin": True, **(y_axis or {})},
        hovermode="closest",
    )
