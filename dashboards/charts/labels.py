"""Label by label: the best trial against the baseline, and which labels it takes for which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from canopy_search.dashboards.charts.theme import ACCENT, FAINT, QUIET, SCALE, new_figure, plain
from canopy_search.dashboards.formatting.tables import ap_text, params_text, percent_text
from canopy_search.dashboards.html.page import Chart
from canopy_search.dashboards.study.reader import StudyData, TrialData
from canopy_search.storage.study.predictions import Predictions

_MOST_LABELS = 60
_MOST_CONFUSED = 30
_MOST_WRITTEN = 14
_ROW_PX = 24
_FEWEST_IMAGES = 5
"""Of fewer images with a label no share is spoken of."""
_NOTABLE = 0.01


@dataclass(frozen=True)
class LabelScore:
    """AP of one label.

    Attributes:
        label: its name.
        images: validation images that have it; None where nobody knows.
        best: of the best trial at its end.
        baseline: of the baseline after its last epoch; None where nobody knows.
        level: of the best trial after as many epochs as the baseline had.
    """

    label: str
    images: int | None
    best: float
    baseline: float | None = None
    level: float | None = None

    @property
    def gain(self) -> float | None:
        """What the best trial is ahead after as many epochs."""
        ahead = self.level if self.level is not None else self.best
        return None if self.baseline is None else ahead - self.baseline


def label_scores(data: StudyData) -> list[LabelScore]:
    """Returns the labels of the best trial that have an AP, the most frequent one first."""
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
    """Returns AP of each label, if the best trial has any."""
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
    """Says where the best trial is ahead of the baseline, and how rare labels do."""
    parts = []
    base = data.baseline
    gains = [(score.gain, score.label) for score in scores if score.gain is not None]
    if base is None or base is data.best or not gains:
        what = (
            "is the baseline itself" if base is not None and base is data.best else "stands alone"
        )
        parts.append(f"The best trial {what}: there is no baseline to compare it with.")
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
            f" after {_epochs(base.epochs)}, where the baseline was stopped (hollow marks: the "
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
    often = float(np.mean([score.best for score in scores[:third]]))
    rare = float(np.mean([score.best for score in scores[-third:]]))
    return (
        f"The rarest third of the labels has a mean AP of {ap_text(rare)}, the most frequent "
        f"{ap_text(often)}."
    )


def figure(data: StudyData, scores: Sequence[LabelScore]) -> go.Figure:
    """Draws each label as a line from the baseline's AP to the best trial's."""
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
    """Which labels are given to images that do not have them.

    Attributes:
        labels: those that validation images have, the most frequent one first.
        recall: (labels,), share of the images with a label that are given it.
        wrong: (labels, labels): of the images that have the row's label and not the column's, the
            share that is given the column's; NaN where there are none, and on the diagonal.
        images: (labels, labels): how many images that is a share of.
    """

    labels: Sequence[str]
    recall: NDArray[np.float64]
    wrong: NDArray[np.float64]
    images: NDArray[np.int64]


def confusion(predictions: Predictions) -> Confusion:
    """Returns how labels are mistaken for each other; one is given from probability one half on.

    What an image really has is no mistake, so that labels that often come together, and are rightly
    given together, do not look confused.
    """
    has = predictions.validation.targets.astype(bool)
    given = predictions.logits >= 0
    counts = has.sum(axis=0)
    kept = [int(at) for at in np.argsort(-counts, kind="stable") if counts[at]]
    has, given = has[:, kept], given[:, kept]
    images = has.astype(np.int64).T @ (~has).astype(np.int64)
    mistaken = has.astype(np.int64).T @ (given & ~has).astype(np.int64)
    wrong = np.divide(mistaken, images, out=np.full(images.shape, np.nan), where=images > 0)
    np.fill_diagonal(wrong, np.nan)
    labels = [predictions.validation.labels[at] for at in kept]
    return Confusion(labels, (has & given).sum(axis=0) / has.sum(axis=0), wrong, images)


def confusion_charts(data: StudyData) -> list[Chart]:
    """Returns the confusion of the best trial's labels, or why there is none."""
    best = data.best
    if best is None or not data.is_ours:
        return []
    title = "Which labels the best trial takes for which"
    predictions = data.predictions.get(best.number)
    if predictions is None:
        text = f"What trial {best.number} says of each validation image was not kept."
        return [Chart("confusion", title, text)]
    found = confusion(predictions)
    if len(found.labels) < 2:
        return [Chart("confusion", title, "With a single label nothing can be confused.")]
    drawn = confusion_figure(found)
    height_px = max(260, 150 + 30 * min(len(found.labels), _MOST_CONFUSED))
    return [Chart("confusion", title, confusion_sentence(found), [drawn], height_px)]


def confusion_sentence(found: Confusion) -> str:
    """Says which labels are confused most, and which is overlooked most."""
    pairs = [
        (found.wrong[row, column], found.labels[row], found.labels[column])
        for row, column in zip(*np.nonzero(found.images >= _FEWEST_IMAGES), strict=True)
        if row != column and not np.isnan(found.wrong[row, column])
    ]
    text = (
        "Each row is the images with a label; a cell is the share of those without the column's "
        "label that are given it all the same, at a probability of one half."
    )
    if pairs:
        share, row, column = max(pairs, key=lambda pair: pair[0])
        if share == 0:
            text += " No label is ever given wrongly."
        else:
            text += (
                f" The most frequent mistake: {percent_text(share)} of the images with {row} get "
                f"{column}."
            )
    lowest = int(found.recall.argmin())
    return (
        f"{text} Overlooked most is {found.labels[lowest]}: {percent_text(found.recall[lowest])} "
        "of its images are given it."
    )


def confusion_figure(found: Confusion) -> go.Figure:
    """Draws the shares; where labels are many, those that are confused most."""
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
    drawn = new_figure("label given wrongly (%)", "label the images have")
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
        return f"{percent_text(found.recall[i])} of the images with {row} are given it"
    if not found.images[i, j]:
        return f"no image has {row} without {column}"
    return (
        f"of {found.images[i, j]:,} images with {row} and without {column}<br>"
        f"{percent_text(found.wrong[i, j])} are given {column}"
    )


def _highest(wrong: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.asarray(np.nan_to_num(wrong, nan=-1.0).max(axis=axis))


def _per_label(trial: TrialData | None, epoch: int) -> dict[str, float]:
    """Returns AP of each label that has one, after an epoch of a trial."""
    for stage in trial.stages if trial is not None else ():
        if stage.epoch == epoch:
            per_label: Mapping[str, float | None] = stage.metrics.get("val_ap_per_label") or {}
            return {label: ap for label, ap in per_label.items() if ap is not None}
    return {}


def _images(data: StudyData) -> dict[str, int]:
    """Returns how many validation images have each label, where any trial's predictions tell."""
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
