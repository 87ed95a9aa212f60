from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from canopy_search.training.data.cache import device_images as on_device
from canopy_search.training.data.cache.device_images import DeviceImages, device_bytes
from canopy_search.training.data.loading import Batch, BatchLoader
from canopy_search.training.settings import Augmentation
from tests.noise_data import dataset_of

CPU = torch.device("cpu")
ALL: tuple[Augmentation, ...] = ("hflip", "vflip", "rot90")


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (40, 6, 6, 3), dtype=np.uint8)


@pytest.fixture
def targets() -> NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 2, (40, 5), dtype=np.uint8)


def batches_of(loader: BatchLoader, epoch: int) -> list[Batch]:
    return [*loader.training_batches(7, epoch), *loader.evaluation_batches()]


@pytest.mark.parametrize("augment", [(), ("hflip",), ("vflip",), ("rot90",), ALL])
def test_batches_are_those_of_the_memory_map(
    augment: tuple[Augmentation, ...], pixels: NDArray[np.uint8], targets: NDArray[np.uint8]
) -> None:
    rows = np.array([5, 3, 30, 31, 17, 39, 0])
    images = DeviceImages(pixels, targets, np.arange(40)[::-1].copy(), CPU)

    def loader(of: DeviceImages | None) -> BatchLoader:
        return BatchLoader(dataset_of(pixels, targets, augment), rows, 3, CPU, of)

    for epoch in range(4):
        ours, theirs = batches_of(loader(images), epoch), batches_of(loader(None), epoch)
        assert len(ours) == len(theirs) == 6
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one.pixels, other.pixels)
            assert torch.equal(one.targets, other.targets)
            assert one.pixels.is_contiguous()
            assert (one.pixels.dtype, one.targets.dtype) == (torch.uint8, torch.float32)


def test_large_batches_are_indexed_in_parts(
    pixels: NDArray[np.uint8], targets: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = DeviceImages(pixels, targets, np.arange(40), CPU)
    positions, symmetries = torch.arange(40).flip(0), torch.arange(40) % 8
    whole, _ = images.gather(positions, symmetries)
    indexed: list[int] = []
    transformed = DeviceImages._transformed

    def counted(self: DeviceImages, *part: torch.Tensor) -> torch.Tensor:
        indexed.append(len(part[0]) * 6**2)
        return transformed(self, *part)

    monkeypatch.setattr(DeviceImages, "_transformed", counted)
    for most in (7 * 6**2, 1):
        monkeypatch.setattr(on_device, "_INDEXED_AT_ONCE", most)
        indexed.clear()
        assert torch.equal(images.gather(positions, symmetries)[0], whole)
        assert max(indexed) == max(most, 6**2)
    assert images._pixel_orders.dtype == torch.int32


def test_the_memory_map_is_not_read_again(
    pixels: NDArray[np.uint8], targets: NDArray[np.uint8]
) -> None:
    rows = np.arange(40)
    images = DeviceImages(pixels, targets, rows, CPU)
    loader = BatchLoader(dataset_of(pixels, targets), rows, 40, CPU, images)
    before = pixels.copy()
    pixels[:] = 0
    (batch,) = loader.evaluation_batches()
    assert np.array_equal(batch.pixels.numpy(), before)


def test_images_that_are_not_held_come_from_the_memory_map(
    pixels: NDArray[np.uint8], targets: NDArray[np.uint8]
) -> None:
    images = DeviceImages(pixels, targets, np.arange(30), CPU)
    assert images.holds(np.arange(30))
    assert not images.holds(np.array([0, 30]))
    rows = np.array([2, 35])
    loader = BatchLoader(dataset_of(pixels, targets), rows, 8, CPU, images)
    (batch,) = loader.evaluation_batches()
    assert np.array_equal(batch.pixels.numpy(), pixels[rows])


def test_they_are_copied_in_parts_that_lose_none(
    monkeypatch: pytest.MonkeyPatch, pixels: NDArray[np.uint8], targets: NDArray[np.uint8]
) -> None:
    monkeypatch.setattr(on_device, "_COPIED_AT_ONCE_BYTES", 7 * pixels[0].nbytes + 1)
    rows = np.arange(39)
    images = DeviceImages(pixels, targets, rows, CPU)
    found, _ = images.gather(images.positions(rows), None)
    assert np.array_equal(found.numpy(), pixels[:39])


def test_bytes_are_those_of_the_pixels(pixels: NDArray[np.uint8]) -> None:
    assert device_bytes(pixels, np.arange(9)) == pixels[:9].nbytes


def test_waiting_is_counted(
    monkeypatch: pytest.MonkeyPatch, pixels: NDArray[np.uint8], targets: NDArray[np.uint8]
) -> None:
    images = DeviceImages(pixels, targets, np.arange(40), CPU)
    loader = BatchLoader(dataset_of(pixels, targets), np.arange(40), 8, CPU, images)
    clock = iter(range(100))
    ticks: Callable[[], float] = lambda: float(next(clock))  # noqa: E731
    monkeypatch.setattr("canopy_search.training.data.loading.time.perf_counter", ticks)
    list(loader.evaluation_batches())
    assert loader.wait_s == 6  # five batches, and that there is none after them
