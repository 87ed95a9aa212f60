"""The blocks of numbers in a diary: VAL and TEST metrics with differences to the baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from canopy_search.dashboards.diary.data import DiaryData, ScoredRun
from canopy_search.dashboards.diary.outline import Tried
from canopy_search.dashboards.formatting.values import NONE, number_text, printable, signed_text
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.dashboards.study.reader import is_number

_LOSS = "_loss"
# Metric without its split → label, and digits.
_SHOWN = {
    "f1": ("f1", 2),
    "precision": ("precision", 2),
    "recall": ("recall", 2),
    "ap": ("AP", 2),
    "hamming": ("hamming", 3),
}
_LOSS_DIGITS = 4

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One line of a block.

    Attributes:
        label: name of the split.
        metrics: metrics by name without the split.
        base: the baseline's after as many epochs or with the same seeds; None for no differences.
    """

    label: str
    metrics: Metrics
    base: Metrics | None = None


def block(rows: Sequence[Row]) -> list[str]:
    """Returns the lines of a block, with aligned columns."""
    losses = sorted({name for row in rows for name in row.metrics if name.endswith(_LOSS)})
    table = [[row.label, *_cells(row, losses)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return ["```", *lines, "```", ""]


def metrics_block(data: DiaryData, tried: Tried) -> list[str]:
    """Returns the metrics of a setting; nothing if it has reported none.

    Differences are to the baseline after as many epochs. If the baseline was stopped earlier, an
    additional line compares the two after its last epoch.
    """
    trial = tried.shown
    if not data.study.is_ours:
        return _plain_block(data, tried)
    if not trial.metrics:
        return []
    last = trial.metrics[-1]
    base = None if data.base is tried else data.base
    then = _metrics_at(base.shown, last["epoch"]) if base else None
    ended = "VAL" if trial.is_complete else f"VAL, epoch {last['epoch']}"
    rows = [Row(ended, of_split(last, "val"), then and of_split(then, "val"))]
    if base is not None and then is None and base.shown.metrics:
        theirs = base.shown.metrics[-1]
        ours = _metrics_at(trial, theirs["epoch"])
        if ours is not None:
            label = f"VAL, epoch {theirs['epoch']}"
            rows.append(Row(label, of_split(ours, "val"), of_split(theirs, "val")))
    runs = data.tests_of(tried.params)
    if runs:
        rows.append(_test_row(runs, () if base is None else data.base_tests))
    return block(rows)


def of_split(metrics: Metrics, split: str) -> dict[str, float]:
    """Returns the numeric metrics of a split, by name without the split."""
    prefix = f"{split}_"
    return {
        name.removeprefix(prefix): float(value)
        for name, value in metrics.items()
        if name.startswith(prefix) and is_number(value)
    }


def mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the mean of each metric that all runs have."""
    names = [name for name in scores[0] if all(name in run for run in scores)]
    return {name: fmean(run[name] for run in scores) for name in names}


def _test_row(runs: Sequence[ScoredRun], base: Sequence[ScoredRun]) -> Row:
    """Returns TEST as a mean over seeds, with differences over the seeds that both have."""
    metrics = mean_scores([of_split(run.test, "test") for run in runs])
    theirs = {run.seed: of_split(run.test, "test") for run in base}
    paired = [run for run in runs if run.seed in theirs]
    if not paired:
        return Row("TEST", metrics)
    ours = mean_scores([of_split(run.test, "test") for run in paired])
    them = mean_scores([theirs[run.seed] for run in paired])
    # Assume that the difference is the same for seeds that the baseline lacks.
    return Row(
        "TEST",
        metrics,
        {name: metrics[name] - ours[name] + them[name] for name in metrics if name in them},
    )


def _cells(row: Row, losses: Sequence[str]) -> list[str]:
    shown = [(name, name, _LOSS_DIGITS) for name in losses]
    shown += [(name, label, digits) for name, (label, digits) in _SHOWN.items()]
    cells = []
    for name, label, digits in shown:
        value = row.metrics.get(name)
        text = f"{label} {NONE if value is None else number_text(value, digits)}"
        if row.base is not None and value is not None and name in row.base:
            text += f" ({signed_text(value - row.base[name], digits)})"
        cells.append(text)
    return cells


def _metrics_at(trial: TrialData, epoch: int) -> Metrics | None:
    return next((each for each in trial.metrics if each["epoch"] == epoch), None)


def _plain_block(data: DiaryData, tried: Tried) -> list[str]:
    score = tried.shown.score
    if score is None:
        return []
    text = f"{printable(data.study.metric)} {plain_score(data.study, score)}"
    return ["```", f"VALUE   {text}", "```", ""]


def plain_score(study: StudyData, score: float | None) -> str:
    """Returns a score as text: AP in the diary's format, plain Optuna's value with four digits."""
    if score is None:
        return NONE
    return number_text(score, 2) if study.is_ours else f"{score:.4g}"
