"""Per label: the best trial against the baseline, and which labels it confuses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from canopy_search.dashboards.charts.theme import ACCENT, FAINT, QUIET, SCALE, new_figure, plain
from canopy_search.dashboards.formatting.tables import ap_text, params_text, percent_text
from canopy_search.dashboards.html.page import Chart
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.storage.study.predictions import Predictions

_MOST_LABELS = 60
_MOST_CONFUSED = 30
_MOST_WRITTEN = 14
_ROW_PX = 24
_FEWEST_IMAGES = 5
"""Fewest images with a label for which the sentence mentions a share."""
_NOTABLE = 0.01


@dataclass(frozen=True)
class LabelScore:
    """AP of one label.

    Attributes:
        label: its name.
        images: number of validation images that have it; None if unknown.
        best: final AP of the best trial.
        baseline: final AP of the baseline; None if unknown.
        level: AP of the best trial after as many epochs as the baseline had.
    """

    label: str
    images: int | None
    best: float
    baseline: float | None = None
    level: float | None = None

    @property
    def gain(self) -> float | None:
        """Lead of the best trial after as many epochs as the baseline had."""
        ours = self.level if self.level is not None else self.best
        return None if self.baseline is None else ours - self.baseline


def label_scores(data: StudyData) -> list[LabelScore]:
    """Returns the labels for which the best trial has an AP, the most frequent first."""
    best = data.best
    if best is None:
        return []
    base = data.baseline if data.baseline is not best else None
    counts = _images(data)
    ours, theirs = _per_label(best, best.epochs), _per_label(base, base.epochs) if base else {}
    level = _per_label(best, base.epochs) if base and base.epochs != best.epochs else ours
    scores = [
        LabelScore(label, counts.get(label), ap, theirs.get(label), level.get(label))
        for label, ap in ours.items()
    ]
    return sorted(scores, key=lambda s: (-(s.images or 0), -s.best, s.label))


def label_charts(data: StudyData) -> list[Chart]:
    """Returns AP of each label, if the best trial has it."""
    scores = label_scores(data)
    if not scores:
        return []
    shown = scores[:_MOST_LABELS]
    height_px = 110 + _ROW_PX * len(shown)
    title = "AP of each label, the most frequent first"
    if any(score.images is None for score in scores):
        title = "AP of each label, the best first"
    return [Chart("labels", title, label_sentence(data, scores), [figure(data, shown)], height_px)]


def label_sentence(data: StudyData, scores: Sequence[LabelScore]) -> str:
    """Returns where the best trial is ahead of the baseline, and the AP of rare labels."""
    parts = []
    base = data.baseline
    gains = [(score.gain, score.label) for score in scores if score.gain is not None]
    if base is None or base is data.best or not gains:
        is_base = base is not None and base is data.best
        parts.append(
            "The best trial is the baseline itself, so there is nothing to compare it with."
            if is_base
            else "There is no baseline to compare the best trial with."
        )
    else:
        parts.append(_against(data, base, gains))
    if (rare := _rare_text(scores)) is not None:
        parts.append(rare)
    if len(scores) > _MOST_LABELS:
        parts.append(f"The {_MOST_LABELS} first of {len(scores)} labels are shown.")
    return " ".join(parts)


def _against(data: StudyData, base: TrialData, gains: Sequence[tuple[float, str]]) -> str:
    best = data.best
    better = sum(gain > _NOTABLE for gain, _ in gains)
    worse = sum(gain < -_NOTABLE for gain, _ in gains)
    (most, most_label), (least, least_label) = max(gains), min(gains)
    when = ""
    if best is not None and base.epochs != best.epochs:
        when = (
            f" after {_epochs(base.epochs)}, when the baseline was stopped (hollow markers: the "
            "best trial then)"
        )
    text = (
        f"Against the baseline, trial {base.number} ({params_text(base.params)}), the best trial "
        f"is ahead by more than {ap_text(_NOTABLE)[:3]} on {better} of {len(gains)} labels and "
        f"behind on {worse}{when}; the largest gain is {_signed(most)} on {most_label}"
    )
    if least < -_NOTABLE:
        text += f", the largest loss {_signed(least)} on {least_label}"
    return text + "."


def _rare_text(scores: Sequence[LabelScore]) -> str | None:
    if len(scores) < 6 or any(score.images is None for score in scores):
        return None
    third = len(scores) // 3
    frequent = float(np.mean([score.best for score in scores[:third]]))
    rare = float(np.mean([score.best for score in scores[-third:]]))
    return (
        f"The rarest third of the labels has a mean AP of {ap_text(rare)}, the most "
        f"frequent third {ap_text(frequent)}."
    )


def figure(data: StudyData, scores: Sequence[LabelScore]) -> go.Figure:
    """Draws each label as a line from the baseline's AP to the best trial's AP."""
    total = _total(data)
    names = [_label_text(score, total) for score in scores]
    drawn = new_figure("AP on validation", "")
    compared = [(name, s) for name, s in zip(names, scores, strict=True) if s.baseline is not None]
    if compared:
        drawn.add_scatter(
            x=[x for _, score in compared for x in (score.baseline, score.best, None)],
            y=[y for name, _ in compared for y in (name, name, None)],
            mode="lines",
            line={"color": FAINT, "width": 3},
            showlegend=False,
            hoverinfo="skip",
        )
        epochs = data.baseline.epochs if data.baseline else 0
        drawn.add_scatter(
            x=[score.baseline for _, score in compared],
            y=[name for name, _ in compared],
            mode="markers",
            marker={"color": QUIET, "size": 9, "symbol": "diamond"},
            name=f"baseline, {_epochs(epochs)}",
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        )
        level = [(n, s.level) for n, s in compared if s.level is not None and s.level != s.best]
        if level:
            drawn.add_scatter(
                x=[ap for _, ap in level],
                y=[name for name, _ in level],
                mode="markers",
                marker={"color": ACCENT, "size": 9, "symbol": "circle-open", "line": {"width": 2}},
                name=f"best trial, {_epochs(epochs)}",
                hovertemplate="%{y}: %{x:.4f}<extra></extra>",
            )
    drawn.add_scatter(
        x=[score.best for score in scores],
        y=names,
        mode="markers",
        marker={"color": ACCENT, "size": 11},
        name=f"best trial, {_epochs(data.best.epochs)}" if data.best else "best trial",
        hovertemplate="%{y}: %{x:.4f}<extra></extra>",
    )
    drawn.update_xaxes(range=[-0.02, 1.02])
    return drawn.update_yaxes(type="category", categoryarray=names, autorange="reversed")


# Confusion


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
    has = predictions.validation.targets.astype(bool)
    predicted = predictions.logits >= 0
    counts = has.sum(axis=0)
    kept = [int(at) for at in np.argsort(-counts, kind="stable") if counts[at]]
    has, predicted = has[:, kept], predicted[:, kept]
    images = has.astype(np.int64).T @ (~has).astype(np.int64)
    mistaken = has.astype(np.int64).T @ (predicted & ~has).astype(np.int64)
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
    found = confusion(predictions)
    if len(found.labels) < 2:
        return [Chart("confusion", title, "A single label cannot be confused.")]
    drawn = confusion_figure(found)
    height_px = max(260, 150 + 30 * min(len(found.labels), _MOST_CONFUSED))
    return [Chart("confusion", title, confusion_sentence(found), [drawn], height_px)]


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
    shares = [[None if np.isnan(cell) else round(100 * cell, 1) for cell in row] for row in wrong]
    text = [[_cell_text(found, row, column) for column in chosen] for row in chosen]
    drawn = new_figure("label predicted wrongly (%)", "label of the images")
    drawn.add_heatmap(
        x=labels,
        y=rows,
        z=shares,
        zmin=0,
        colorscale=SCALE,
        xgap=2,
        ygap=2,
        hoverongaps=False,
        showscale=len(labels) > _MOST_WRITTEN,
        colorbar={"title": {"text": "%"}, "thickness": 10, "outlinewidth": 0},
        hovertext=text,
        hovertemplate="%{hovertext}<extra></extra>",
        texttemplate="%{z:.0f}" if len(labels) <= _MOST_WRITTEN else None,
    )
    drawn.update_xaxes(type="category", showgrid=False, tickangle=-45, dtick=1)
    return drawn.update_yaxes(type="category", showgrid=False, autorange="reversed")


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


def _per_label(trial: TrialData | None, epoch: int) -> dict[str, float]:
    """Returns AP by label after an epoch of a trial, for labels that have one."""
    for stage in trial.stages if trial is not None else ():
        if stage.epoch == epoch:
            per_label: Mapping[str, float | None] = stage.metrics.get("val_ap_per_label") or {}
            return {label: ap for label, ap in per_label.items() if ap is not None}
    return {}


def _images(data: StudyData) -> dict[str, int]:
    """Returns label → number of validation images, if any trial has predictions."""
    for predictions in data.predictions.values():
        counts = predictions.validation.targets.sum(axis=0, dtype=np.int64).tolist()
        return dict(zip(predictions.validation.labels, counts, strict=True))
    return {}


def _total(data: StudyData) -> int:
    return next((len(each.validation.targets) for each in data.predictions.values()), 0)


def _label_text(score: LabelScore, total: int) -> str:
    if score.images is None or not total:
        return plain(score.label)
    share = score.images / total
    return (
        f"{plain(score.label)} · {percent_text(share)}"
        if share >= 0.01
        else f"{plain(score.label)} · <1 %"
    )


def _epochs(count: int) -> str:
    return f"{count} epoch" if count == 1 else f"{count} epochs"


def _signed(difference: float) -> str:
    return f"{'+' if difference >= 0 else '−'}{ap_text(abs(difference))}"
