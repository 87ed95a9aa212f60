import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from canopy_search.training.data import loading
from canopy_search.training.data.files import parallel
from canopy_search.training.data.images.augmentation import symmetric_views, whole_pixels
from canopy_search.training.data.loading import Batch, BatchLoader, epoch_seed
from canopy_search.training.settings import Augmentation
from tests.noise_data import dataset_of

CPU = torch.device("cpu")
ROWS = np.arange(3, 47)
ALL: tuple[Augmentation, ...] = ("hflip", "vflip", "rot90")


def targets_of(count: int) -> NDArray[np.uint8]:
    """Targets that spell the number of their image in binary."""
    return (np.arange(count)[:, None] >> np.arange(8) & 1).astype(np.uint8)


@pytest.fixture
def loader(numbered_pixels: NDArray[np.uint8]) -> Callable[..., BatchLoader]:
    def make(
        indices: NDArray[np.int64] = ROWS, augment: tuple[Augmentation, ...] = ()
    ) -> BatchLoader:
        return BatchLoader(dataset_of(numbered_pixels, targets_of(50), augment), indices, 10, CPU)

    return make


def numbers(batch: Batch) -> list[int]:
    """Which images a batch holds, as its pixels say."""
    return batch.pixels[:, 0, 0, 0].tolist()


def joined(batches: list[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([b.pixels for b in batches]), torch.cat([b.targets for b in batches])


def test_evaluation_keeps_the_order_and_the_pixels(
    loader: Callable[..., BatchLoader], numbered_pixels: NDArray[np.uint8]
) -> None:
    batches = list(loader().evaluation_batches())

    pixels, targets = joined(batches)
    assert pixels.dtype == torch.uint8
    assert targets.dtype == torch.float32
    assert np.array_equal(pixels.numpy(), numbered_pixels[3:47])
    assert np.array_equal(targets.numpy(), targets_of(50)[3:47])


def test_training_brings_every_image_once_with_its_own_targets(
    loader: Callable[..., BatchLoader], numbered_pixels: NDArray[np.uint8]
) -> None:
    batches = list(loader().training_batches(0, 1))

    pixels, targets = joined(batches)
    order = pixels[:, 0, 0, 0].numpy()
    assert sorted(order) == list(range(3, 47))
    assert list(order) != list(range(3, 47))
    assert np.array_equal(pixels.numpy(), numbered_pixels[order])
    assert np.array_equal(targets.numpy(), targets_of(50)[order])


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50))
def test_an_epoch_is_cut_evenly_and_complete(count: int, batch_size: int) -> None:
    pixels = np.zeros((40, 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(40)
    loader = BatchLoader(dataset_of(pixels, targets_of(40)), np.arange(count), batch_size, CPU)

    batches = list(loader.training_batches(1, 2))

    sizes = [len(batch.targets) for batch in batches]
    assert len(sizes) == len(loader) == -(-count // batch_size)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert sorted(itertools.chain(*map(numbers, batches))) == list(range(count))


@pytest.mark.parametrize("augment", [(), ALL])
def test_threads_and_prefetch_change_nothing(
    loader: Callable[..., BatchLoader],
    augment: tuple[Augmentation, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = joined(list(loader(augment=augment).training_batches(7, 3)))
    executor = parallel.ThreadPoolExecutor
    monkeypatch.setattr(parallel, "ThreadPoolExecutor", lambda _threads, **o: executor(3, **o))
    monkeypatch.setattr(loading, "BATCHES_AHEAD", 9)
    three = joined(list(loader(augment=augment).training_batches(7, 3)))

    assert torch.equal(one[0], three[0])
    assert torch.equal(one[1], three[1])


def test_seed_and_epoch_decide_and_augmentation_keeps_the_order(
    loader: Callable[..., BatchLoader],
) -> None:
    def order(seed: int, epoch: int, augment: tuple[Augmentation, ...] = ()) -> list[float]:
        _, targets = joined(list(loader(augment=augment).training_batches(seed, epoch)))
        return (targets @ 2.0 ** torch.arange(8)).tolist()

    assert order(0, 1) == order(0, 1) == order(0, 1, ALL)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_images_are_augmented_by_the_allowed_symmetries_evenly() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (800, 4, 4, 3), dtype=np.uint8)
    views = symmetric_views(whole_pixels(pixels))
    loader = BatchLoader(dataset_of(pixels, targets_of(800), ALL), np.arange(800), 64, CPU)
    order = torch.randperm(800, generator=torch.Generator().manual_seed(epoch_seed(0, 0)))

    augmented, _ = joined(list(loader.training_batches(0, 0)))

    seen = [
        [view[image].tobytes() for view in views].index(result.numpy().tobytes())
        for image, result in zip(order.tolist(), augmented, strict=True)
    ]
    counts = np.bincount(seen, minlength=8)
    assert counts.min() > 70
    assert counts.max() < 130


def test_evaluation_is_never_augmented(
    loader: Callable[..., BatchLoader], numbered_pixels: NDArray[np.uint8]
) -> None:
    pixels, _ = joined(list(loader(augment=ALL).evaluation_batches()))

    assert np.array_equal(pixels.numpy(), numbered_pixels[3:47])


def test_a_read_only_memory_map_is_read(tmp_path: Path, numbered_pixels: NDArray[np.uint8]) -> None:
    numbered_pixels.tofile(tmp_path / "pixels.bin")
    mapped = np.memmap(tmp_path / "pixels.bin", np.uint8, mode="r", shape=numbered_pixels.shape)
    dataset = dataset_of(mapped, targets_of(50), ("hflip",))
    loader = BatchLoader(dataset, np.arange(50), 16, CPU)

    pixels, _ = joined(list(loader.evaluation_batches()))
    assert np.array_equal(pixels.numpy(), numbered_pixels)
    assert len(list(loader.training_batches(0, 0))) == 4


def loading_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "canopy-data" in thread.name}


@pytest.fixture
def others() -> set[threading.Thread]:
    """Threads of an iterator that an earlier test's exception still holds."""
    return loading_threads()


def test_a_consumer_that_stops_early_leaves_no_thread(
    loader: Callable[..., BatchLoader], others: set[threading.Thread]
) -> None:
    for _ in loader().training_batches(0, 0):
        assert loading_threads() > others
        break
    assert loading_threads() <= others

    def failing() -> None:
        for _ in loader().training_batches(0, 0):
            raise KeyError("the consumer's own")

    with pytest.raises(KeyError, match="the consumer's own"):
        failing()
    assert loading_threads() <= others


def test_an_error_in_a_thread_reaches_the_consumer(
    loader: Callable[..., BatchLoader],
    monkeypatch: pytest.MonkeyPatch,
    others: set[threading.Thread],
) -> None:
    def fail(self: BatchLoader, recipe: object) -> Batch:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(BatchLoader, "_gather", fail)

    with pytest.raises(OSError, match="Input/output error"):
        list(loader().training_batches(0, 0))
    assert loading_threads() <= others


@pytest.mark.parametrize("outside", [-1, 50])
def test_indices_outside_the_images_are_refused(
    loader: Callable[..., BatchLoader], outside: int
) -> None:
    with pytest.raises(IndexError, match="expected indices from 0 to 49"):
        loader(indices=np.array([3, outside]))


def test_waiting_is_counted_for_the_latest_pass(
    loader: Callable[..., BatchLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = loader()
    ticks = (float(second) for second in itertools.count())
    monkeypatch.setattr(
        "canopy_search.training.data.loading.time.perf_counter", lambda: next(ticks)
    )

    for _ in range(2):
        list(batches.evaluation_batches())
        assert batches.wait_s == len(batches) + 1  # and that there is none after them


def test_epoch_seed_is_documented_exactly_and_spreads() -> None:
    # The first eight bytes of `printf 0/1 | sha256sum`, halved.
    assert epoch_seed(0, 1) == int("a93875fe509ac2fa", 16) >> 1
    seeds = {epoch_seed(seed, epoch) for seed in range(100) for epoch in range(100)}
    assert len(seeds) == 10_000
    assert all(0 <= seed < 2**63 for seed in seeds)
    torch.Generator().manual_seed(max(seeds))
