"""YAML → training run: trains one configuration in full, tests it and keeps the model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from canopy_search.search.settings import CanopyConfig
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.metrics import multilabel_metrics
from canopy_search.training.model_file import TrainedModel, save_model
from canopy_search.training.run import BatchProgress, EpochMetrics, TrainingRun
from canopy_search.training.thresholds import THRESHOLD_BETAS, best_thresholds


@dataclass(frozen=True)
class TrainingResult:
    """What a full training run gave.

    Attributes:
        model: the file that was written.
        epochs: metrics of every epoch.
        validation: scores of the final model on validation, with their split in the name.
        test: scores on test; empty if no images were held out for it.
        at_thresholds: ``test_f1_at_thresholds`` and ``test_f2_at_thresholds``, scores on test with
            the thresholds that were chosen on validation; None if no images were held out for it.
        study_val_ap: what the study says the validation AP was, if the configuration knows.
        same_data: whether the data are those of the study, if the configuration knows.
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
    run = TrainingRun(config.training, dataset)
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
    known = config.provenance or {}
    fingerprint = known.get("data_fingerprint")
    return TrainingResult(
        model=model,
        epochs=[epoch.as_dict() for epoch in epochs],
        validation=validation,
        test=test,
        at_thresholds=at_thresholds,
        study_val_ap=known.get("val_ap"),
        same_data=None if fingerprint is None else fingerprint == dataset.fingerprint,
    )


def at_thresholds_key(name: str) -> str:
    """Returns what the score on test at a model's thresholds of that name is called."""
    return f"test_{name}_at_thresholds"


def _test_scores_at(
    thresholds: dict[str, npt.NDArray[np.float32]], run: TrainingRun
) -> dict[str, float | None]:
    """Scores on test, because thresholds flatter the images that they were chosen on.

    Of ``f1`` it is the macro f1, of ``f2`` the mean over images, as without thresholds.
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
