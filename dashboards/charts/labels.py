"""AP of each label: the best trial against the baseline, or several trials side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go

from canopy_search.dashboards.charts.theme import ACCENT, FAINT, QUIET, new_figure, plain
from canopy_search.dashboards.formatting.values import (
    ap_text,
    counted,
    params_text,
    percent_text,
    signed_text,
)
from canopy_search.dashboards.html.page import Chart
from canopy_search.dashboards.study.model import StudyData, TrialData

MOST_LABELS = 60
"""More labels are not drawn."""
_ROW_PX = 24
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


@dataclass(frozen=True)
class LabelDots:
    """One trial in a figure of labels.

    Attributes:
        name: of the trial.
        ap: label → AP.
        marker: Plotly's settings of its marker.
    """

    name: str
    ap: Mapping[str, float]
    marker: Mapping[str, Any] = field(default_factory=lambda: {"color": ACCENT, "size": 11})


def label_scores(data: StudyData) -> list[LabelScore]:
    """Returns the labels for which the best trial has an AP, the most frequent first."""
    best = data.best
    if best is None:
        return []
    base = data.baseline if data.baseline is not best else None
    validation = next((each.validation for each in data.predictions.values()), None)
    counts = {} if validation is None else validation.images_by_label
    ours = best.label_ap()
    theirs, level = (base.label_ap(), best.label_ap(base.epochs)) if base else ({}, {})
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
    drawn = figure(data, scores[:MOST_LABELS])
    title = "AP of each label, the most frequent first"
    if any(score.images is None for score in scores):
        title = "AP of each label, the best first"
    text, height_px = label_sentence(data, scores), label_height_px(len(scores))
    return [Chart("labels", title, text, [drawn], height_px)]


def trial_label_chart(trial: TrialData) -> Chart | None:
    """Returns AP of each label after a trial's last epoch, the best first; None if it has none."""
    found = sorted(trial.label_ap().items(), key=lambda pair: (-pair[1], pair[0]))
    if not found:
        return None
    names = {label: plain(label) for label, _ in found[:MOST_LABELS]}
    drawn = label_figure([LabelDots(f"trial {trial.number}", dict(found))], names)
    title = f"trial {trial.number}: AP of each label, mean {ap_text(trial.val_ap)}"
    return Chart("labels", title, "", [drawn], label_height_px(len(found)))


def label_height_px(labels: int) -> int:
    """Returns the height of a figure of that many labels."""
    return 110 + _ROW_PX * min(labels, MOST_LABELS)


def label_figure(trials: Sequence[LabelDots], names: Mapping[str, str]) -> go.Figure:
    """Draws a row for each label, with one marker for each trial.

    Args:
        trials: the later ones are above the earlier ones.
        names: label → its escaped name on the axis, from top to bottom.
    """
    drawn = new_figure("AP on validation", "")
    for each in trials:
        known = [label for label in names if label in each.ap]
        drawn.add_scatter(
            x=[each.ap[label] for label in known],
            y=[names[label] for label in known],
            mode="markers",
            name=plain(each.name),
            marker=dict(each.marker),
            hovertemplate="%{fullData.name}, %{y}: %{x:.4f}<extra></extra>",
        )
    rows = list(names.values())
    drawn.update_xaxes(range=[-0.02, 1.02])
    return drawn.update_yaxes(type="category", categoryarray=rows, autorange="reversed")


def ahead_text(
    ours: Mapping[str, float], theirs: Mapping[str, float], when: str = ""
) -> str | None:
    """Returns on how many labels a trial is ahead of another, and the largest gain and loss.

    Args:
        ours: label → AP of the trial.
        theirs: label → AP of the other.
        when: since when, if that is not the end of both.

    Returns:
        A clause about the trial; None if they have no label in common.
    """
    gains = [(ap - theirs[label], label) for label, ap in ours.items() if label in theirs]
    if not gains:
        return None
    better = sum(gain > _NOTABLE for gain, _ in gains)
    worse = sum(gain < -_NOTABLE for gain, _ in gains)
    (most, most_label), (least, least_label) = max(gains), min(gains)
    text = (
        f"ahead by more than {ap_text(_NOTABLE)[:3]} on {better} of {counted(len(gains), 'label')} "
        f"and behind on {worse}{when}"
    )
    if most > _NOTABLE:
        text += f"; the largest gain is {signed_text(most)} on {most_label}"
    if least < -_NOTABLE:
        text += f"; the largest loss is {signed_text(least)} on {least_label}"
    return text


def label_sentence(data: StudyData, scores: Sequence[LabelScore]) -> str:
    """Returns where the best trial is ahead of the baseline, and the AP of rare labels."""
    best, base = data.best, data.baseline
    parts = []
    if base is not None and base is best:
        parts.append(
            "The best trial is the baseline itself, so there is nothing to compare it with."
        )
    elif base is not None and best is not None and (text := _against(best, base)):
        parts.append(text)
    else:
        parts.append("There is no baseline to compare the best trial with.")
    if (rare := _rare_text(scores)) is not None:
        parts.append(rare)
    if len(scores) > MOST_LABELS:
        parts.append(f"The {MOST_LABELS} first of {len(scores)} labels are shown.")
    return " ".join(parts)


def _against(best: TrialData, base: TrialData) -> str | None:
    when = ""
    if base.epochs != best.epochs:
        when = (
            f" after {counted(base.epochs, 'epoch')}, when the baseline was stopped (hollow "
            "markers: the best trial then)"
        )
    ours = best.label_ap(base.epochs) or best.label_ap()
    ahead = ahead_text(ours, base.label_ap(), when)
    against = f"Against the baseline, trial {base.number} ({params_text(base.params)})"
    return None if ahead is None else f"{against}, the best trial is {ahead}."


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
    total = next((len(each.validation.targets) for each in data.predictions.values()), 0)
    names = {score.label: _label_text(score, total) for score in scores}
    base = {s.label: s.baseline for s in scores if s.baseline is not None}
    level = {s.label: s.level for s in scores if s.level is not None and s.level != s.best}
    best = {s.label: s.best for s in scores}
    epochs = counted(data.baseline.epochs if data.baseline else 0, "epoch")
    hollow = {"color": ACCENT, "size": 9, "symbol": "circle-open", "line": {"width": 2}}
    dots = [
        LabelDots(f"baseline, {epochs}", base, {"color": QUIET, "size": 9, "symbol": "diamond"}),
        LabelDots(f"best trial, {epochs}", level, hollow),
        LabelDots(f"best trial, {counted(data.best.epochs if data.best else 0, 'epoch')}", best),
    ]
    drawn = label_figure([each for each in dots if each.ap], names)
    drawn.add_scatter(
        x=[x for label in base for x in (base[label], best[label], None)],
        y=[y for label in base for y in (names[label], names[label], None)],
        mode="lines",
        line={"color": FAINT, "width": 3},
        showlegend=False,
        hoverinfo="skip",
    )
    drawn.data = [drawn.data[-1], *drawn.data[:-1]]  # the lines are behind the markers
    return drawn


def _label_text(score: LabelScore, total: int) -> str:
    if score.images is None or not total:
        return plain(score.label)
    share = score.images / total
    return f"{plain(score.label)} · {percent_text(share)}"
