"""A training run as text: a line an epoch, and tables of its scores at the end."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from canopy_search.dashboards.tables import ap_text, duration_text
from canopy_search.search.training_job import TrainingResult, at_thresholds_key
from canopy_search.training.run import EpochMetrics
from canopy_search.training.thresholds import THRESHOLD_BETAS

SPLITS = ("val", "test")


def epoch_line(metrics: EpochMetrics, epochs: int) -> str:
    """Returns what one epoch gave, in one line."""
    validation = metrics.validation
    return (
        f"epoch {metrics.epoch:>{len(str(epochs))}} of {epochs}"
        f"  train {metrics.loss_name} {metrics.train_loss:.4f}  val {validation.loss:.4f}"
        f"  AP {ap_text(validation.metrics.ap)}  f1 {ap_text(validation.metrics.f1)}"
        f"  {duration_text(metrics.train_s + validation.seconds)}"
    )


def print_result(result: TrainingResult, console: Console) -> None:
    """Prints the scores on validation and test, AP of each label, and where the model is."""
    scores = result.validation | result.test
    splits = [split for split in SPLITS if f"{split}_ap" in scores]
    console.print(_metrics_table(scores, splits))
    console.print(_labels_table(scores, splits))
    for line in (thresholds_line(result), comparison_line(result), f"model: {result.model}"):
        if line:
            console.print(line, highlight=False, soft_wrap=True)


def comparison_line(result: TrainingResult) -> str | None:
    """Says how the validation AP compares with the study's, where it comes from one."""
    if result.study_val_ap is None:
        return None
    if result.same_data is False:
        return "the data are not those of the study, so its validation AP does not compare"
    if result.validation["val_ap"] == result.study_val_ap:
        return f"validation AP equals the study's exactly ({result.study_val_ap!r})"
    return (
        f"validation AP is {result.validation['val_ap']!r}, the study's {result.study_val_ap!r}: "
        "another machine, other versions or other settings"
    )


def thresholds_line(result: TrainingResult) -> str | None:
    """Says what thresholds for each label, chosen on validation, bring on test."""
    if not result.test:
        return None
    scores = [
        f"{name} {ap_text(result.at_thresholds[at_thresholds_key(name)])} instead of "
        f"{ap_text(result.test[f'test_{name}'])}"
        for name in THRESHOLD_BETAS
    ]
    return f"with the thresholds kept in the model, test {', '.join(scores)} at one half"


def _metrics_table(scores: dict[str, Any], splits: list[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("metric")
    for split in splits:
        table.add_column(split, justify="right")
    names = [
        key.removeprefix("val_")
        for key, value in scores.items()
        if key.startswith("val_") and isinstance(value, float | None)
    ]
    for name in names:
        shown = {"ap": "AP"}.get(name, name)
        table.add_row(shown, *(ap_text(scores[f"{split}_{name}"]) for split in splits))
    return table


def _labels_table(scores: dict[str, Any], splits: list[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("label")
    for split in splits:
        table.add_column(f"{split} AP", justify="right")
    for label in scores["val_ap_per_label"]:
        cells = (ap_text(scores[f"{split}_ap_per_label"][label]) for split in splits)
        table.add_row(label, *cells)
    return table
