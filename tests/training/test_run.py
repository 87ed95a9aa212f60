import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from canopy_search.search.workers.forkserver import CONTEXT
from canopy_search.training.checkpoint import state_from_bytes, state_to_bytes
from canopy_search.training.data.dataset import Dataset, open_dataset
from canopy_search.training.data.labels.targets import UNKNOWN
from canopy_search.training.errors import DivergedError, SettingsError, UnknownNameError
from canopy_search.training.liveness import LONGEST_SILENCE_S, heard_by
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import (
    DataSettings,
    OptimizerSettings,
    ScheduleSettings,
    TrainingSettings,
)
from tests.noise_data import noise_dataset
from tests.planet_data import LABEL_RATES, write_planet_data
from tests.warm_start import own_forkserver

SETTINGS = TrainingSettings(
    epochs=3, batch_size=16, backbone="tinyresnet_8", loss="weighted_bce", gamma=0.9, threads=1
)
TIMES = {"train_s", "val_s", "wait_s", "images_per_s", "peak_memory_mib"}

CONTINUED: dict[str, dict[str, object]] = {
    "tinyresnet": {"threads": 2},
    "dropout": {"backbone": "mobilenet_v3_small", "loss": "focal_bce", "epochs": 2},
    "timm": {"backbone": "timm/test_vit", "gradient_checkpointing": True},
    "bf16": {"precision": "bf16", "clip_norm": 1.0},
    "sgd": {"optimizer": OptimizerSettings(name="sgd", lr=0.01, weight_decay=1e-4)},
    "warm-up": {"schedule": ScheduleSettings(warmup_epochs=1.5)},
    "cosine": {"gamma": 1.0, "schedule": ScheduleSettings(name="cosine", warmup_epochs=0.5)},
    "one_cycle": {"gamma": 1.0, "schedule": ScheduleSettings(name="one_cycle", warmup_epochs=1)},
    "wsd": {"gamma": 1.0, "schedule": ScheduleSettings(name="wsd", decay_epochs=1.5)},
    "ema": {"ema": 0.9},
    "groups": {
        "freeze_epochs": 2,
        "layer_decay": 0.7,
        "head_lr_factor": 3.0,
        "head_bias": "priors",
        "optimizer": OptimizerSettings(weight_decay=0.1, decay_norms_and_biases=False),
    },
    "all": {
        "gamma": 1.0,
        "schedule": ScheduleSettings(name="wsd", warmup_epochs=1, decay_epochs=1),
        "ema": 0.9,
        "freeze_epochs": 1,
        "layer_decay": 0.7,
        "precision": "bf16",
        "clip_norm": 1.0,
    },
}
LONGER: dict[str, dict[str, object]] = {
    "resnet18": {"backbone": "resnet18", "threads": 2},
    "long_dropout": {"backbone": "mobilenet_v3_small", "threads": 2, "epochs": 4},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planet")
    write_planet_data(folder)
    return folder


@pytest.fixture(scope="module")
def data_settings(folder: Path) -> DataSettings:
    return DataSettings(
        labels=folder / "train_classes.csv",
        images=folder / "train-jpg",
        image_px=32,
        augment=("hflip", "rot90"),
    )


@pytest.fixture(scope="module")
def dataset(folder: Path, data_settings: DataSettings) -> Dataset:
    return open_dataset(data_settings, folder / "home")


def trained(settings: TrainingSettings, dataset: Dataset) -> TrainingRun:
    run = TrainingRun.of(settings, dataset)
    while not run.is_finished:
        run.train_epoch()
    return run


def assert_same_state(one: object, other: object) -> None:
    if isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor)
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        for key in one:
            assert_same_state(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        for left, right in zip(one, other, strict=True):
            assert_same_state(left, right)
    else:
        assert one == other


@dataclass(frozen=True)
class Opened:
    """A data set, and where it was opened."""

    dataset: Dataset
    settings: DataSettings
    home: Path


@pytest.fixture(scope="module")
def opened(folder: Path, data_settings: DataSettings, dataset: Dataset) -> Opened:
    return Opened(dataset, data_settings, folder / "home")


def continue_in_a_new_process(
    cases: dict[str, dict[str, object]], place: Path, opened: Opened
) -> None:
    """Trains an epoch of each, and lets one new process, begun as a worker, do the rest of all."""
    runs = {name: SETTINGS.model_copy(update=changes) for name, changes in cases.items()}
    for name, settings in runs.items():
        run = TrainingRun.of(settings, opened.dataset)
        run.train_epoch()
        (place / f"{name}.pt").write_bytes(state_to_bytes(run.state()))
    with own_forkserver():
        data = (opened.settings, opened.home)
        process = CONTEXT.Process(target=continue_all, args=(runs, place, *data))
        process.start()
        process.join()
    assert process.exitcode == 0


def continue_all(
    runs: dict[str, TrainingSettings], place: Path, data: DataSettings, home: Path
) -> None:
    """Trains the later epochs of each."""
    dataset = open_dataset(data, home)
    for name, settings in runs.items():
        run = TrainingRun.of(settings, dataset)
        run.restore(state_from_bytes((place / f"{name}.pt").read_bytes()))
        while not run.is_finished:
            run.train_epoch()
        (place / f"{name}.continued.pt").write_bytes(state_to_bytes(run.state()))


@pytest.fixture(scope="module")
def continued(opened: Opened, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("continued")
    continue_in_a_new_process(CONTINUED, place, opened)
    return place


@pytest.mark.parametrize("name", CONTINUED)
def test_one_epoch_a_checkpoint_and_a_new_process_equal_all_epochs_straight(
    continued: Path, dataset: Dataset, name: str, one_thread: None
) -> None:
    straight = trained(SETTINGS.model_copy(update=CONTINUED[name]), dataset)
    assert_same_state(
        straight.state(), state_from_bytes((continued / f"{name}.continued.pt").read_bytes())
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LONGER)
def test_longer_runs_go_on_in_a_new_process(
    opened: Opened, name: str, tmp_path: Path, one_thread: None
) -> None:
    continue_in_a_new_process({name: LONGER[name]}, tmp_path, opened)
    straight = trained(SETTINGS.model_copy(update=LONGER[name]), opened.dataset)
    assert_same_state(
        straight.state(), state_from_bytes((tmp_path / f"{name}.continued.pt").read_bytes())
    )


def test_runs_of_equal_settings_are_equal_whatever_ran_before(dataset: Dataset) -> None:
    first = trained(SETTINGS, dataset)
    trained(SETTINGS.model_copy(update={"backbone": "tinycnn_8", "epochs": 1}), dataset)
    torch.rand(7)
    assert_same_state(first.state(), trained(SETTINGS, dataset).state())


def test_runs_that_differ_in_gamma_alone_are_equal_through_their_first_epoch(
    dataset: Dataset,
) -> None:
    runs = [TrainingRun.of(SETTINGS.model_copy(update={"gamma": g}), dataset) for g in (0.8, 1.0)]
    first = [run.train_epoch().validation.metrics for run in runs]
    assert first[0] == first[1]
    assert runs[0].train_epoch().validation.metrics != runs[1].train_epoch().validation.metrics


def test_validation_and_what_is_kept_are_of_the_average_of_the_weights_after_every_step(
    dataset: Dataset,
) -> None:
    settings = SETTINGS.model_copy(update={"ema": 0.9, "epochs": 2})
    plain = TrainingRun.of(settings.model_copy(update={"ema": None}), dataset)
    average = AveragedModel(plain.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    run = TrainingRun.of(settings, dataset)
    for _ in range(2):
        metrics = run.train_epoch()
        plain.train_epoch(lambda *_: average.update_parameters(plain.model))

    assert_same_state(run.model.state_dict(), plain.model.state_dict())
    expected, found = average.module.state_dict(), run.evaluated.state_dict()
    floats = [name for name in expected if expected[name].is_floating_point()]
    assert_same_state({name: found[name] for name in floats}, {n: expected[n] for n in floats})
    assert run.evaluate(dataset.split.validation).metrics == metrics.validation.metrics
    plain.model.load_state_dict(found)
    assert plain.evaluate(dataset.split.validation).metrics == metrics.validation.metrics


def test_only_the_head_changes_in_a_frozen_epoch(dataset: Dataset) -> None:
    changes = {"freeze_epochs": 1, "backbone": "mobilenet_v3_small", "epochs": 2}
    run = TrainingRun.of(SETTINGS.model_copy(update=changes), dataset)
    before = copy.deepcopy(run.model.state_dict())
    run.train_epoch()
    changed = [
        name
        for name, value in run.model.state_dict().items()
        if not torch.equal(value, before[name])
    ]
    assert changed == ["classifier.3.weight", "classifier.3.bias"]
    run.train_epoch()
    assert not torch.equal(
        run.model.state_dict()["features.0.0.weight"], before["features.0.0.weight"]
    )


def test_a_frozen_epoch_is_resumed_by_a_run_with_other_rates_of_layers(dataset: Dataset) -> None:
    one, other = (
        SETTINGS.model_copy(update={"freeze_epochs": 1, "epochs": 2, "layer_decay": decay})
        for decay in (0.5, 1.0)
    )
    shared = TrainingRun.of(one, dataset)
    shared.train_epoch()
    resumed = TrainingRun.of(other, dataset)
    resumed.restore(state_from_bytes(state_to_bytes(shared.state())))
    resumed.train_epoch()
    assert_same_state(resumed.state()["model"], trained(other, dataset).state()["model"])


def test_a_wsd_run_ends_from_the_checkpoint_of_a_trunk_with_another_end(dataset: Dataset) -> None:
    one, other = (
        TrainingSettings.model_validate(
            SETTINGS.model_dump()
            | {
                "gamma": 1.0,
                "schedule": {"name": "wsd", "decay_epochs": 1, "final_factor": factor},
            }
        )
        for factor in (0.5, 0.0)
    )
    trunk = TrainingRun.of(one, dataset)
    for _ in range(2):
        trunk.train_epoch()
    resumed = TrainingRun.of(other, dataset)
    resumed.restore(state_from_bytes(state_to_bytes(trunk.state())))
    resumed.train_epoch()
    assert_same_state(resumed.state(), trained(other, dataset).state())


def test_the_head_starts_at_the_log_odds_of_the_labels(dataset: Dataset) -> None:
    run = TrainingRun.of(SETTINGS.model_copy(update={"head_bias": "priors"}), dataset)
    shares = dataset.targets[dataset.split.train].mean(axis=0)
    found = run.model.get_submodule("head").bias.detach().sigmoid()
    inner = (shares > 0) & (shares < 1)
    assert inner.any()
    assert found[inner].tolist() == pytest.approx(shares[inner].tolist(), rel=1e-5)


def test_another_seed_is_another_run(dataset: Dataset) -> None:
    one, other = (TrainingRun.of(SETTINGS.model_copy(update={"seed": s}), dataset) for s in (0, 1))
    assert one.train_epoch().train_loss != other.train_epoch().train_loss


def test_the_process_s_own_generator_is_left_alone(dataset: Dataset) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with_dropout = SETTINGS.model_copy(update={"backbone": "mobilenet_v3_small"})
    TrainingRun.of(with_dropout, dataset).train_epoch()
    assert torch.equal(torch.rand(3), expected)


def test_the_metrics_of_an_epoch_are_json_and_complete(dataset: Dataset) -> None:
    run = TrainingRun.of(SETTINGS, dataset)
    run.train_epoch()
    metrics = run.train_epoch().as_dict()
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert metrics["epoch"] == 2
    assert metrics["lr"] == pytest.approx(0.9e-3)
    assert metrics.keys() >= TIMES | {
        "val_ap", "val_f1", "val_f2", "val_precision", "val_recall", "val_hamming",
        "val_weighted_bce_loss", "train_weighted_bce_loss",
    }  # fmt: skip
    assert set(metrics["val_ap_per_label"]) == set(LABEL_RATES)
    assert 0 <= metrics["wait_s"] <= metrics["train_s"]


def test_it_learns(dataset: Dataset) -> None:
    settings = SETTINGS.model_copy(
        update={"epochs": 5, "loss": "bce", "optimizer": OptimizerSettings(lr=1e-2)}
    )
    run = TrainingRun.of(settings, dataset)
    losses = [run.train_epoch().train_loss for _ in range(settings.epochs)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_mean_over_unequal_batches_weighs_images_equally(dataset: Dataset) -> None:
    # At a rate that moves nothing, cutting the epoch into one batch or many changes no mean; but
    # for BatchNorm and dropout, which are put to sleep.
    still = {"loss": "bce", "optimizer": OptimizerSettings(name="sgd", lr=1e-12)}
    losses = []
    for batch_size in (1000, 17):
        run = TrainingRun.of(
            SETTINGS.model_copy(update={**still, "batch_size": batch_size}), dataset
        )
        run.model.eval()
        for module in run.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train = lambda mode=True, module=module: module
        losses.append(run.train_epoch().train_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_loss_that_is_no_number_ends_the_run(dataset: Dataset) -> None:
    settings = SETTINGS.model_copy(
        update={"optimizer": OptimizerSettings(name="sgd", lr=1e30), "backbone": "tinycnn_8"}
    )
    with pytest.raises(DivergedError, match=r"epoch [12]"):
        trained(settings, dataset)


def test_progress_counts_the_batches_of_an_epoch(dataset: Dataset) -> None:
    seen: list[tuple[int, int, int]] = []
    TrainingRun.of(SETTINGS, dataset).train_epoch(lambda *step: seen.append(step))
    batches = math.ceil(len(dataset.split.train) / SETTINGS.batch_size)
    assert seen == [(1, done, batches) for done in range(1, batches + 1)]


def test_a_watchdog_hears_of_every_batch_that_is_only_scored(dataset: Dataset) -> None:
    run = TrainingRun.of(SETTINGS.model_copy(update={"batch_size": 2}), dataset)
    for split in (dataset.split.validation, dataset.split.test):
        heard: list[float] = []
        with heard_by(heard.append):
            run.evaluate(split)
        assert len(split) > 4
        assert heard == [*[0.0] * math.ceil(len(split) / 4), LONGEST_SILENCE_S, 0.0]


def test_threads_are_those_of_the_settings(dataset: Dataset, one_thread: None) -> None:
    for threads in (1, 2):
        TrainingRun.of(SETTINGS.model_copy(update={"threads": threads}), dataset)
        assert torch.get_num_threads() == threads


def test_an_unknown_backbone_names_the_nearest(dataset: Dataset) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'resnet18'"):
        TrainingRun.of(SETTINGS.model_copy(update={"backbone": "resnet81"}), dataset)


def run_with_loss_scaling(dataset: Dataset) -> TrainingRun:
    """A run that scales its loss as with fp16, which no CPU computes in."""
    run = TrainingRun.of(SETTINGS, dataset)
    run._scaler = torch.amp.GradScaler("cpu")
    return run


def overflow_in(run: TrainingRun, steps: set[int]) -> None:
    """Makes some of the next training steps, counted from 1, overflow in the first layer."""
    seen = 0

    def spoil(_layer: nn.Module, _inputs: object, features: torch.Tensor) -> torch.Tensor | None:
        nonlocal seen
        seen += run.model.training
        return features * math.inf if run.model.training and seen in steps else None

    next(run.model.children()).register_forward_hook(spoil)


def test_a_step_that_overflows_in_fp16_is_skipped_and_is_no_divergence(dataset: Dataset) -> None:
    run = run_with_loss_scaling(dataset)
    overflow_in(run, {2})
    scale = run._scaler.get_scale()
    metrics = run.train_epoch()
    assert math.isfinite(metrics.train_loss)
    assert run._scaler.get_scale() == scale / 2
    assert all(torch.isfinite(each).all() for each in run.model.state_dict().values())


def test_overflow_in_every_step_is_divergence(dataset: Dataset) -> None:
    run = run_with_loss_scaling(dataset)
    overflow_in(run, set(range(1, 1000)))
    with pytest.raises(DivergedError):
        run.train_epoch()


def test_a_loss_scale_that_helps_no_more_is_divergence(dataset: Dataset) -> None:
    run = run_with_loss_scaling(dataset)
    run._scaler = torch.amp.GradScaler("cpu", init_scale=1e-5)
    with pytest.raises(DivergedError, match="fp16"):
        run.train_epoch()


def test_logits_beyond_fp16_are_computed_again_in_fp32(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainingRun.of(SETTINGS, dataset)
    expected = run.evaluate(dataset.split.validation)
    run._precision = "fp16"
    real = run._outputs

    def outputs(indices: Any, precision: Any = None) -> Any:
        found, targets = real(indices, "fp32")
        return (found if precision == "fp32" else found / 0), targets

    monkeypatch.setattr(run, "_outputs", outputs)
    assert run.evaluate(dataset.split.validation).metrics == expected.metrics


def test_unknown_targets_count_neither_for_loss_nor_metrics() -> None:
    dataset = noise_dataset(train=24, validation=24, test=0)
    dataset.targets[::4, 0] = UNKNOWN
    settings = SETTINGS.model_copy(update={"epochs": 1, "loss": "bce", "backbone": "tinycnn_8"})
    run = TrainingRun.of(settings, dataset)

    metrics = run.train_epoch()

    logits, targets = run.logits(dataset.split.validation)
    known = ~targets.isnan()
    assert int((~known).sum()) == 6
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], targets[known])
    assert metrics.validation.loss == pytest.approx(expected.item(), rel=1e-6)
    assert math.isfinite(metrics.train_loss)
    ap = average_precision_score(targets[known[:, 0], 0], logits[known[:, 0], 0])
    assert metrics.validation.metrics.ap_per_label["clear"] == pytest.approx(ap)


def test_exclusive_labels_have_probabilities_that_sum_to_one_and_an_accuracy() -> None:
    dataset = noise_dataset(train=24, validation=24, test=0)
    dataset.targets[:, 1] = 1 - dataset.targets[:, 0]
    settings = SETTINGS.model_copy(
        update={"epochs": 1, "loss": "cross_entropy", "backbone": "tinycnn_8"}
    )
    run = TrainingRun.of(settings, dataset)

    validation = run.train_epoch().validation

    probabilities = torch.from_numpy(validation.logits).sigmoid()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(24))
    targets = torch.from_numpy(dataset.targets[dataset.split.validation])
    hits = probabilities.argmax(dim=1) == targets.argmax(dim=1)
    assert validation.as_dict("val", "cross_entropy")["val_accuracy"] == hits.double().mean()
    assert list(validation.accuracies) == ["accuracy"]  # of two labels, all are in the top five


def test_softmax_is_refused_for_images_with_several_labels() -> None:
    with pytest.raises(SettingsError, match="choose bce"):
        TrainingRun.of(
            SETTINGS.model_copy(update={"loss": "cross_entropy"}), noise_dataset(6, 6, 0)
        )
