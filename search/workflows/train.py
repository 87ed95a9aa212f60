"""YAML → training run: trains one configuration in full, tests it and saves the model."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from canopy_search.dashboards.formatting.values import ap_text, duration_text
from canopy_search.dashboards.study.model import training_s
from canopy_search.filestore.atomic import check_writable
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.console import is_live
from canopy_search.search.events import Note
from canopy_search.search.progress_display import open_screen
from canopy_search.search.study.plan import SearchPlan, StartedStudy
from canopy_search.search.study.preflight import check_network, open_data
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.trial.open_tree import open_tree
from canopy_search.search.trial.stage_tree import RunEpoch, StageTree
from canopy_search.storage.workers.session import worker_session
from canopy_search.training.metrics import multilabel_metrics
from canopy_search.training.network.model_file import TrainedModel, save_model
from canopy_search.training.network.thresholds import THRESHOLD_BETAS, best_thresholds
from canopy_search.training.run import BatchProgress, TrainingRun
from canopy_search.training.settings import TrainingSettings


@dataclass(frozen=True)
class TrainingResult:
    """The result of a full training run.

    Attributes:
        model: the saved model file.
        epoch: the epoch whose model it is.
        epochs: metrics of every epoch.
        validation: scores of the model on validation; their names include the split.
        test: scores on test; empty if no images are held out for it.
        at_thresholds: ``test_f1_at_thresholds`` and ``test_f2_at_thresholds``, scores on test with
            the thresholds chosen on validation; None if no images are held out for test.
        study_val_ap: validation AP of the trial in the study, if the configuration has it.
        same_data: whether the data is the study's, if the configuration has its fingerprint.
    """

    model: Path
    epoch: int
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
            "epoch": self.epoch,
            **self.validation,
            "test_ap": None,
            **self.test,
            **self.at_thresholds,
            "study_val_ap": self.study_val_ap,
            "same_data": self.same_data,
            "epochs": self.epochs,
        }


@dataclass(frozen=True)
class ModelFile:
    """A model file to write.

    Attributes:
        path: of the file.
        keep: whether it contains the model of the last epoch, or of the one whose validation AP is
            the best, the first one of equals.
    """

    path: Path
    keep: Literal["last", "best"] = "last"

    def epoch(self, epochs: Sequence[Mapping[str, Any]]) -> int:
        """Returns the epoch to keep, from the metrics of all of them."""
        if self.keep == "last":
            return len(epochs)
        return 1 + max(range(len(epochs)), key=lambda at: (epochs[at]["val_ap"], -at))


def train_in_full(
    config: CanopyConfig,
    tree: StageTree,
    model: ModelFile,
    on_batch: BatchProgress | None = None,
    on_epoch: Callable[[RunEpoch], None] = lambda _epoch: None,
) -> TrainingResult:
    """Trains all epochs, scores validation and test, and writes the model.

    Stored stages are reused, of a search too, and every epoch is stored, so an interrupted training
    resumes where it was.

    Args:
        config: data and training settings; its provenance, if any, is compared with the result.
        tree: the stage tree on the opened data.
        model: the file to write.
        on_batch: called with (epoch, batches done, batches of the epoch).
        on_epoch: called after every epoch.

    Raises:
        DivergedError: the run diverges.
        OutOfMemoryError: an epoch does not fit into memory, even in micro-batches.
    """
    dataset = tree.dataset
    run_path = tree.plan(config.training)
    epochs: list[dict[str, Any]] = []
    try:
        with closing(tree.epochs(run_path, on_batch)) as steps:
            for step in steps:
                tree.write(run_path)
                epochs.append(step.metrics)
                on_epoch(step)
        run = tree.run_after(run_path, model.epoch(epochs), on_batch)
    finally:
        tree.write(run_path)
    scored = run.evaluate(dataset.split.validation)
    validation = scored.as_dict("val", run.settings.loss)
    targets = torch.from_numpy(dataset.targets[dataset.split.validation])
    thresholds = {
        name: best_thresholds(torch.from_numpy(scored.logits), targets, beta=beta)
        for name, beta in THRESHOLD_BETAS.items()
    }
    test = {}
    at_thresholds: dict[str, float | None] = dict.fromkeys(map(at_thresholds_key, thresholds))
    if len(dataset.split.test):
        test = run.evaluate(dataset.split.test).as_dict("test", run.settings.loss)
        at_thresholds = _test_scores_at(thresholds, run)
    split = [[each.from_epoch, each.steps] for each in run_path.accumulation]
    settings = {
        "data": config.data.model_dump(mode="json"),
        "training": {**run.settings.model_dump(mode="json"), "accumulation": split},
    }
    save_model(
        model.path,
        TrainedModel(
            run.evaluated,
            dataset.labels,
            dataset.image_px,
            settings,
            {"epoch": run.epoch, "keep": model.keep, **validation, **test, **at_thresholds},
            {name: tuple(values.tolist()) for name, values in thresholds.items()},
            dataset.conversion,
        ),
        not_averaged=None if run.evaluated is run.model else run.model,
    )
    provenance = config.provenance or {}
    fingerprint = provenance.get("data_fingerprint")
    return TrainingResult(
        model=model.path,
        epoch=run.epoch,
        epochs=epochs,
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
    logits, targets = (tensor.cpu() for tensor in run.logits(run.dataset.split.test))
    scores = {
        name: multilabel_metrics(
            logits, targets, labels=run.dataset.labels, thresholds=torch.from_numpy(values)
        )
        for name, values in thresholds.items()
    }
    return {at_thresholds_key(name): getattr(scores[name], name) for name in thresholds}


SPLITS = ("val", "test")


def epoch_line(epoch: RunEpoch, training: TrainingSettings) -> str:
    """Returns the results of one epoch as one line."""
    metrics, loss, epochs = epoch.metrics, training.loss, training.epochs
    spent = duration_text(training_s(metrics)) if epoch.is_new else "reused"
    return (
        f"epoch {metrics['epoch']:>{len(str(epochs))}} of {epochs}"
        f"  train {loss} {metrics[f'train_{loss}_loss']:.4f}  val {metrics[f'val_{loss}_loss']:.4f}"
        f"  AP {ap_text(metrics['val_ap'])}  f1 {ap_text(metrics['val_f1'])}  {spent}"
    )


def print_result(result: TrainingResult, console: Console) -> None:
    """Prints the scores on validation and test, the AP of each label, and the model's path."""
    scores = result.validation | result.test
    splits = [split for split in SPLITS if f"{split}_ap" in scores]
    console.print(_metrics_table(scores, splits))
    console.print(_labels_table(scores, splits))
    model = f"model of epoch {result.epoch} of {len(result.epochs)}: {result.model}"
    for line in (thresholds_line(result), comparison_line(result), model):
        if line:
            console.print(line, soft_wrap=True)


def comparison_line(result: TrainingResult) -> str | None:
    """Compares the validation AP with the study's, if the configuration comes from a study."""
    if result.study_val_ap is None:
        return None
    if result.same_data is False:
        return "the data differs from the study's, so the validation AP cannot be compared"
    if result.epoch < len(result.epochs):
        return None  # the study's is that of the last epoch
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


def train_on_screen(request: StudyRequest, model: ModelFile, console: Console) -> TrainingResult:
    """Trains one configuration in full and prints every epoch.

    Args:
        request: data and training settings.
        model: the file to write.
        console: where the epochs are printed.
    """
    configuration, workspace = request.configuration, request.workspace
    config = configuration.settings
    screen = open_screen(console)
    try:
        dataset = open_data(config.data, workspace.home, screen.emit)
        for fit in check_network(config.training, dataset).values():
            screen.emit(Note(str(fit)))
        check_writable(model.path)
    finally:
        screen.close()
    epochs = config.training.epochs

    def show(text: str) -> None:
        console.print(text, soft_wrap=True)

    with ExitStack() as stack:
        status = stack.enter_context(console.status("epoch 1")) if is_live(console) else None

        def on_batch(epoch: int, done: int, total: int) -> None:
            if status is not None:
                status.update(f"epoch {epoch} of {epochs}: {100 * done // total} %")

        plan = SearchPlan(workspace, config, configuration.space, request.study, n_trials=1)
        database = stack.enter_context(closing(workspace.open()))
        session = stack.enter_context(worker_session(database.url, throttle=database.throttle))
        tree = stack.enter_context(
            open_tree(StartedStudy(plan, dataset), database, session, workspace.retrier(show))
        )
        return train_in_full(
            config, tree, model, on_batch, lambda epoch: show(epoch_line(epoch, config.training))
        )
