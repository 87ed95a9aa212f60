import dataclasses

import pytest

from canopy_search.search.forecast import speed
from canopy_search.search.forecast.speed import measure_speed
from canopy_search.training.checkpoint import state_to_bytes
from canopy_search.training.data.sample import DataSample
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import TrainingSettings
from tests.noise_data import noise_dataset

SETTINGS = TrainingSettings(backbone="tinycnn_8", batch_size=8, device="cpu", threads=1)


def sample(train: int, validation: int) -> DataSample:
    return DataSample(
        noise_dataset(16, 8, 0), 100, train, validation, is_decoded=True, images_per_s=(),
        decoding_s=0.0,
    )  # fmt: skip


def test_it_measures_passes_and_what_a_checkpoint_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_SLOW_STEP_S", 1000.0)
    measured = measure_speed(SETTINGS, sample(64, 16), budget_s=0.0)
    assert len(measured.epoch_s) == 2
    assert min(measured.epoch_s) > 0
    run = TrainingRun.of(SETTINGS, noise_dataset(16, 8, 0))
    run.train_epoch()
    assert measured.checkpoint_bytes == pytest.approx(len(state_to_bytes(run.state())), rel=0.01)
    assert measured.peak_mib > 10


def test_a_slow_step_is_not_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_SLOW_STEP_S", 0.0)
    assert len(measure_speed(SETTINGS, sample(64, 16), budget_s=0.0).epoch_s) == 1


def test_an_epoch_of_more_images_takes_longer_in_proportion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def counted(run: TrainingRun) -> object:
        metrics = real(run)
        images = len(run.dataset.split.train)
        validation = dataclasses.replace(
            metrics.validation, seconds=0.5 * len(run.dataset.split.validation)
        )
        return dataclasses.replace(metrics, train_s=1.0 * images, validation=validation)

    real = TrainingRun.train_epoch
    monkeypatch.setattr(TrainingRun, "train_epoch", counted)
    monkeypatch.setattr(speed, "_SLOW_STEP_S", 1000.0)
    measured = measure_speed(SETTINGS, sample(4000, 600), budget_s=0.0)
    assert measured.epoch_s == pytest.approx((4300.0, 4300.0))


def test_a_rate_at_which_a_loss_explodes_is_not_learned_with() -> None:
    wild = SETTINGS.optimizer.model_copy(update={"name": "sgd", "lr": 1e30})
    settings = SETTINGS.model_copy(update={"optimizer": wild})
    assert measure_speed(settings, sample(64, 16), budget_s=0.0).epoch_s
