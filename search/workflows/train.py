"""YAML → training run: trains one configuration in full, tests it and saves the model."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from canopy_search.dashboards.formatting.values import ap_text, duration_text
from canopy_search.filestore.atomic import check_writable
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.console import is_live
from canopy_search.search.progress_display import open_screen
from canopy_search.search.study.preflight import check_network, open_data
from canopy_search.search.study.request import StudyRequest
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.metrics import multilabel_metrics
from canopy_search.training.network.model_file import TrainedModel, save_model
from canopy_search.training.network.thresholds import THRESHOLD_BETAS, best_thresholds
from canopy_search.training.run import BatchProgress, EpochMetrics, TrainingRun


@dataclass(frozen=True)
class TrainingResult:
    """The result of a full training run.

    Attributes:
        model: the saved model file.
        epochs: metrics of every epoch.
        validation: scores of the final model on validation; their names include the split.
        test: scores on test; empty if no images are held out for it.
        at_thresholds: ``test_f1_at_thresholds`` and ``test_f2_at_thresholds``, scores on test with
            the thresholds chosen on validation; None if no images are held out for test.
        study_val_ap: validation AP of the trial in the study, if the configuration has it.
        same_data: whether the data is the study's, if the configuration has its fingerprint.
    """

    model: Path
    epochs: list[dict[str, Any]]
    validation: dict[str, Any]
    test: dict[str, Any]
    at_thresholds: dict[str, float | None]
    study_val_ap: float | None
    same_data: bool | None

    def as_json(self) -> dict[str, Any]:
        """Returns what ``canopy train --json`` prints."""
        return {
            "model": str(self.model),
            **self.validation,
            "test_ap": None,
            **self.test,
            **self.at_thresholds,
            "study_val_ap": self.study_val_ap,
            "same_data": self.same_data,
            "epochs": self.epochs,
        }


def train_in_full(
    config: CanopyConfig,
    dataset: Dataset,
    model: Path,
    on_batch: BatchProgress | None = None,
    on_epoch: Callable[[EpochMetrics], None] | None = None,
) -> TrainingResult:
    """Trains all epochs, scores validation and test, and writes the model.

    Args:
        config: data and training settings; its provenance, if any, is compared with the result.
        dataset: the opened data.
        model: the file to write.
        on_batch: called with (epoch, batches done, batches of the epoch).
        on_epoch: called after every epoch.
    """
    run = TrainingRun.of(config.training, dataset)
    epochs: list[EpochMetrics] = []
    while not run.is_finished:
        epochs.append(run.train_epoch(on_batch))
        if on_epoch is not None:
            on_epoch(epochs[-1])
    validation = epochs[-1].validation.as_dict("val", run.settings.loss)
    logits, targets = _on_cpu(run.logits(dataset.split.validation))
    thresholds = {
        name: best_thresholds(logits, targets, beta=beta) for name, beta in THRESHOLD_BETAS.items()
    }
    test = {}
    at_thresholds: dict[str, float | None] = dict.fromkeys(map(at_thresholds_key, thresholds))
    if len(dataset.split.test):
        test = run.evaluate(dataset.split.test).as_dict("test", run.settings.loss)
        at_thresholds = _test_scores_at(thresholds, run)
    settings = {
        "data": config.data.model_dump(mode="json"),
        "training": run.settings.model_dump(mode="json"),
    }
    save_model(
        model,
        TrainedModel(
            run.model,
            dataset.labels,
            dataset.image_px,
            settings,
            validation | test | at_thresholds,
            {name: tuple(values.tolist()) for name, values in thresholds.items()},
        ),
    )
    provenance = config.provenance or {}
    fingerprint = provenance.get("data_fingerprint")
    return TrainingResult(
        model=model,
        epochs=[epoch.as_dict() for epoch in epochs],
        validation=validation,
        test=test,
        at_thresholds=at_thresholds,
        study_val_ap=provenance.get("val_ap"),
        same_data=None if fingerprint is None else fingerprint == dataset.fingerprint,
    )


def at_thresholds_key(name: str) -> str:
    """Returns the name of the test score at the model's thresholds with that name."""
    return f"test_{name}_at_thresholds"


def _test_scores_at(
    thresholds: dict[str, npt.NDArray[np.float32]], run: TrainingRun
) -> dict[str, float | None]:
    """Scores on test, because the scores are biased upwards where the thresholds were chosen.

    ``f1`` is the macro f1, ``f2`` the mean over images, as without thresholds.
    """
    logits, targets = _on_cpu(run.logits(run.dataset.split.test))
    scores = {
        name: multilabel_metrics(
            logits, targets, labels=run.dataset.labels, thresholds=torch.from_numpy(values)
        )
        for name, values in thresholds.items()
    }
    return {at_thresholds_key(name): getattr(scores[name], name) for name in thresholds}


def _on_cpu(tensors: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    logits, targets = tensors
    return logits.cpu(), targets.cpu()


SPLITS = ("val", "test")


def epoch_line(metrics: EpochMetrics, epochs: int) -> str:
    """Returns the results of one epoch as one line."""
    validation = metrics.validation
    return (
        f"epoch {metrics.epoch:>{len(str(epochs))}} of {epochs}"
        f"  train {metrics.loss_name} {metrics.train_loss:.4f}  val {validation.loss:.4f}"
        f"  AP {ap_text(validation.metrics.ap)}  f1 {ap_text(validation.metrics.f1)}"
        f"  {duration_text(metrics.train_s + validation.seconds)}"
    )


def print_result(result: TrainingResult, console: Console) -> None:
    """Prints the scores on validation and test, the AP of each label, and the model's path."""
    scores = result.validation | result.test
    splits = [split for split in SPLITS if f"{split}_ap" in scores]
    console.print(_metrics_table(scores, splits))
    console.print(_labels_table(scores, splits))
    for line in (thresholds_line(result), comparison_line(result), f"model: {result.model}"):
        if line:
            console.print(line, highlight=False, soft_wrap=True)


def comparison_line(result: TrainingResult) -> str | None:
    """Compares the validation AP with the study's, if the configuration comes from a study."""
    if result.study_val_ap is None:
        return None
    if result.same_data is False:
        return "the data differs from the study's, so the validation AP cannot be compared"
    if result.validation["val_ap"] == result.study_val_ap:
        return f"validation AP equals the study's exactly ({result.study_val_ap!r})"
    return (
        f"validation AP is {result.validation['val_ap']!r}, the study's {result.study_val_ap!r}: "
        "the machine, versions or settings differ"
    )


def thresholds_line(result: TrainingResult) -> str | None:
    """Compares test scores at the per-label thresholds from validation with those at one half."""
    if not result.test:
        return None
    scores = [
        f"{name} {ap_text(result.at_thresholds[at_thresholds_key(name)])} instead of "
        f"{ap_text(result.test[f'test_{name}'])}"
        for name in THRESHOLD_BETAS
    ]
    return f"with the thresholds saved in the model, test {', '.join(scores)} at one half"


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


def train_on_screen(request: StudyRequest, model: Path, console: Console) -> TrainingResult:
    """Trains one configuration in full and prints every epoch.

    Args:
        request: data and training settings.
        model: the file to write.
        console: where the epochs are printed.
    """
    config = request.configuration.settings
    screen = open_screen(console)
    try:
        dataset = open_data(config.data, request.workspace.home, screen.emit)
        check_network(config.training, dataset)
        check_writable(model)
    finally:
        screen.close()
    epochs = config.training.epochs

    with console.status("epoch 1") if is_live(console) else nullcontext() as status:

        def on_batch(epoch: int, done: int, total: int) -> None:
            if status is not None:
                status.update(f"epoch {epoch} of {epochs}: {100 * done // total} %")

        def on_epoch(metrics: EpochMetrics) -> None:
            console.print(epoch_line(metrics, epochs), highlight=False, soft_wrap=True)

        return train_in_full(config, dataset, model, on_batch, on_epoch)
