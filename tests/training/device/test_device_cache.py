import gc
from typing import Any

import pytest
import torch
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.data.cache.device_images import DeviceImages
from canopy_search.training.device import device_cache
from canopy_search.training.device.device_cache import FREE_SHARE, images_on_device, release_images
from canopy_search.training.errors import OutOfMemoryError, SettingsError
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import TrainingSettings
from tests.noise_data import noise_dataset
from tests.short_memory import ShortMemory
from tests.training.test_run import assert_same_state

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)
DATA_BYTES = (16 + 6) * 16 * 16 * 3


def dataset() -> Any:
    return noise_dataset(train=16, validation=6, test=5)


def settings(**values: Any) -> TrainingSettings:
    fixed = {"device": "cpu", "precision": "fp32", "threads": 1, "backbone": "tinycnn_8"}
    return TrainingSettings.model_validate(fixed | {"epochs": 2, "batch_size": 8} | values)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A GPU in name only, which holds images in the host's memory; a list of its free bytes."""
    free = [10 * DATA_BYTES]
    monkeypatch.setattr(device_cache, "available_bytes", lambda _device: free[0])

    def hold(pixels: Any, targets: Any, rows: Any, device: torch.device) -> DeviceImages:
        on_device = DeviceImages(pixels, targets, rows, CPU)
        on_device.device = device
        return on_device

    monkeypatch.setattr(device_cache, "DeviceImages", hold)
    return free


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("loss", ["bce", "weighted_bce"])
def test_a_run_is_the_same_bit_for_bit(loss: str, accumulation: int, one_thread: None) -> None:
    runs = []
    for cache in ("off", "on"):
        run = TrainingRun.of(settings(loss=loss, device_cache=cache), dataset(), accumulation)
        metrics = [run.train_epoch() for _ in range(2)]
        tested = run.evaluate(run.dataset.split.test)
        runs.append((run, metrics, tested))
    (one, ours, our_test), (other, theirs, their_test) = runs
    assert_same_state(one.state(), other.state())
    assert [m.train_loss for m in ours] == [m.train_loss for m in theirs]
    assert [m.validation.metrics for m in ours] == [m.validation.metrics for m in theirs]
    assert our_test.metrics == their_test.metrics
    assert (one._on_device is None, other._on_device is None) == (True, False)


def test_auto_is_off_on_the_cpu() -> None:
    assert images_on_device(dataset(), "auto", CPU) is None


def test_auto_holds_what_takes_a_part_of_the_free_memory(gpu: list[int]) -> None:
    for share, fits in ((FREE_SHARE * 1.01, False), (FREE_SHARE * 0.99, True)):
        gpu[0] = int(DATA_BYTES / share)
        assert (images_on_device(dataset(), "auto", CUDA) is not None) is fits
    assert images_on_device(dataset(), "off", CUDA) is None


def test_workers_on_one_gpu_divide_that_part(
    gpu: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_cache._THIS_PROCESS, "workers_on_gpu", 1)
    device_cache.share_gpu(4)
    for share, fits in ((FREE_SHARE / 4 * 1.01, False), (FREE_SHARE / 4 * 0.99, True)):
        gpu[0] = int(DATA_BYTES / share)
        assert (images_on_device(dataset(), "auto", CUDA) is not None) is fits


def test_runs_on_the_same_data_share_them(gpu: list[int]) -> None:
    data = dataset()
    on_device = images_on_device(data, "auto", CUDA)
    gpu[0] = 0  # what is held needs no more room
    assert images_on_device(data, "auto", CUDA) is on_device is not None
    assert images_on_device(data, "on", CUDA) is on_device
    other = images_on_device(data, "on", CPU)
    assert other is not on_device
    assert other is not None
    assert other.device == CPU


def test_they_go_with_the_data(gpu: list[int]) -> None:
    data = dataset()
    before = len(device_cache._KEPT)
    assert images_on_device(data, "auto", CUDA) is not None
    assert len(device_cache._KEPT) == before + 1
    del data
    gc.collect()
    assert len(device_cache._KEPT) == before


def test_what_auto_took_is_given_back_for_good(gpu: list[int]) -> None:
    data = dataset()
    assert not release_images(data, "auto")  # there was nothing
    images_on_device(data, "auto", CUDA)
    assert not release_images(data, "on")  # asked for by name
    assert release_images(data, "auto")
    assert images_on_device(data, "auto", CUDA) is None
    assert images_on_device(dataset(), "auto", CUDA) is not None


def test_without_room_auto_does_without_and_on_says_so(
    gpu: list[int], monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    def fail(*arguments: Any) -> DeviceImages:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(device_cache, "DeviceImages", fail)
    assert images_on_device(dataset(), "auto", CUDA) is None
    with pytest.raises(SettingsError) as caught:
        images_on_device(dataset(), "on", CUDA)
    for part in ("training.device_cache: ", "0.016 MiB", "0.16 MiB", "cuda:0"):
        assert part in str(caught.value)
    assert str(caught.value) == words


def test_other_errors_are_not_taken_for_a_shortage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> DeviceImages:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(device_cache, "DeviceImages", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        images_on_device(dataset(), "on", CPU)


def test_a_run_without_room_gives_them_back_and_says_that_it_may_fit_now(
    monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """On the CPU, where ``auto`` has been made to hold images."""
    monkeypatch.setattr(device_cache, "_may_cache", lambda data, _device: data not in given_up)
    given_up = device_cache._GIVEN_UP
    memory = ShortMemory(monkeypatch)
    memory.training_images = 4
    data = dataset()
    with pytest.raises(OutOfMemoryError, match=r"training\.device_cache ") as caught:
        TrainingRun.of(settings(), data).train_epoch()
    assert caught.value.made_room

    run = TrainingRun.of(settings(), data)
    assert run._on_device is None
    with pytest.raises(OutOfMemoryError, match=r" training\.batch_size") as again:
        run.train_epoch()
    assert "device_cache" not in str(again.value)
    assert not again.value.made_room
