"""Batches of pixels and targets, gathered ahead of the training loop by threads, or on the device.

If the images are cached on the device, a batch is gathered there on request. Otherwise threads
gather batches from the memory map ahead of the training loop; for a GPU, into pinned memory, from
which they are copied while the previous batch is trained on.
"""

import hashlib
import itertools
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from canopy_search.training.data.cache.device_images import DeviceImages
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.data.files.parallel import map_in_order
from canopy_search.training.data.images.augmentation import (
    allowed_symmetries,
    symmetric_views,
    whole_pixels,
)
from canopy_search.training.data.labels.targets import as_float
from canopy_search.training.data.uploading import uploaded

GPU_LOADER_THREADS = 4
BATCHES_AHEAD = 4


@dataclass(frozen=True, eq=False)
class Batch:
    """Images and their labels, on the device.

    Attributes:
        pixels: (batch, image_px, image_px, 3), uint8.
        targets: (batch, labels), float32, 0 or 1, NaN if unknown.
    """

    pixels: Tensor
    targets: Tensor

    def parts(self, count: int) -> Iterator["Batch"]:
        """Splits the batch into parts whose sizes differ by at most one; views, not copies."""
        images = len(self.targets)
        ends = [images * (at + 1) // count for at in range(count)]
        for start, end in zip([0, *ends], ends, strict=False):
            yield Batch(self.pixels[start:end], self.targets[start:end])


def epoch_seed(seed: int, epoch: int) -> int:
    """Returns the seed of all randomness in one epoch, from a run's seed and the epoch number.

    It is the first eight bytes of ``SHA-256("<seed>/<epoch>")``, big-endian, without the highest
    bit. Neighbouring seeds and epochs are independent, and pairs do not collide as they would with
    ``seed + epoch``.

    Returns:
        A number from 0 to 2**63 - 1, which every generator of torch accepts.
    """
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True, eq=False)
class _Recipe:
    """The contents of one batch.

    Attributes:
        images: (batch,), int64, rows of the pixels and targets.
        symmetries: (batch,), int64; None leaves every image unchanged.
    """

    images: NDArray[np.int64]
    symmetries: NDArray[np.int64] | None


class BatchLoader:
    """Loads images of a data set in batches, for training or evaluation.

    An epoch has ``ceil(images / batch_size)`` batches whose sizes differ by at most one, so that
    no tiny last batch disturbs batch normalisation. The contents depend neither on the number of
    threads nor on prefetching, because everything random is drawn before the first batch is
    gathered.

    Attributes:
        wait_s: seconds that the consumer waited for batches in the latest pass.
    """

    def __init__(
        self,
        dataset: Dataset,
        indices: NDArray[np.int64],
        batch_size: int,
        device: torch.device,
        on_device: DeviceImages | None = None,
    ) -> None:
        """Prepares the loader; threads start and end with each pass.

        Args:
            dataset: the images; each training image is transformed by a symmetry drawn uniformly
                from those that its augmentations generate.
            indices: rows of the images to load.
            batch_size: largest size of a batch.
            device: that batches are copied to.
            on_device: the same images in the memory of `device`; used if it holds all of
                `indices`, which changes no batch.

        Raises:
            IndexError: an index is not a row of the pixels; gathering does not check again.
        """
        pixels = dataset.pixels
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(pixels):
            raise IndexError(
                f"expected indices from 0 to {len(pixels) - 1}, "
                f"found {indices.min()} to {indices.max()}"
            )
        self.wait_s = 0.0
        self._indices = indices
        self._batches = -(-len(indices) // batch_size)
        self._device = device
        self._symmetries = allowed_symmetries(dataset.augment)
        # A plain array view, because indexing a memmap takes twice as long.
        self._pixels = np.asarray(pixels)
        self._views = symmetric_views(whole_pixels(self._pixels))
        self._targets = as_float(dataset.targets)
        self._on_device = on_device if on_device is not None and on_device.holds(indices) else None

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return self._batches

    def training_batches(self, seed: int, epoch: int) -> Generator[Batch]:
        """Yields every image once, in an order and with symmetries set by seed and epoch.

        Close the generator to end its threads, unless it is exhausted.
        """
        generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
        count = len(self._indices)
        order = torch.randperm(count, generator=generator).numpy()
        symmetries = None
        if len(self._symmetries) > 1:
            drawn = torch.randint(len(self._symmetries), (count,), generator=generator).numpy()
            symmetries = np.array(self._symmetries)[drawn]
        return self._deliver(self._indices[order], symmetries)

    def evaluation_batches(self) -> Generator[Batch]:
        """Yields every image once, unchanged, in the order of the indices; close it likewise."""
        return self._deliver(self._indices, None)

    def _cuts(self, count: int) -> Iterator[slice]:
        """Returns the slices of `count` images that form the batches."""
        ends = [count * (at + 1) // self._batches for at in range(self._batches)]
        return itertools.starmap(slice, zip([0, *ends], ends, strict=False))

    def _deliver(
        self, images: NDArray[np.int64], symmetries: NDArray[np.int64] | None
    ) -> Generator[Batch]:
        """Yields the batches on the device and measures the time spent waiting for them."""
        self.wait_s = 0.0
        source = (
            self._from_device(self._on_device, images, symmetries)
            if self._on_device is not None
            else self._from_host(images, symmetries)
        )
        with closing(source):
            while True:
                started = time.perf_counter()
                batch = next(source, None)
                self.wait_s += time.perf_counter() - started
                if batch is None:
                    return
                yield batch

    def _from_device(
        self,
        on_device: DeviceImages,
        images: NDArray[np.int64],
        symmetries: NDArray[np.int64] | None,
    ) -> Generator[Batch]:
        """Gathers each batch on the device on request."""
        positions = on_device.positions(images)
        drawn = None if symmetries is None else on_device.copied(symmetries)
        for cut in self._cuts(len(images)):
            yield Batch(*on_device.gather(positions[cut], None if drawn is None else drawn[cut]))

    def _from_host(
        self, images: NDArray[np.int64], symmetries: NDArray[np.int64] | None
    ) -> Generator[Batch]:
        """Gathers batches ahead, in threads, and copies them to the device."""
        recipes = [
            _Recipe(images[cut], None if symmetries is None else symmetries[cut])
            for cut in self._cuts(len(images))
        ]
        threads = 1 if self._device.type == "cpu" else GPU_LOADER_THREADS
        gathered = map_in_order(self._gather, recipes, threads=threads, ahead=BATCHES_AHEAD)
        with closing(gathered):
            for pixels, targets in uploaded(
                ((batch.pixels, batch.targets) for batch in gathered), self._device
            ):
                yield Batch(pixels, targets)

    def _gather(self, recipe: _Recipe) -> Batch:
        """Copies the images of one batch from the memory map, in a thread."""
        pinned = self._device.type == "cuda"
        count = len(recipe.images)
        pixels = torch.empty((count, *self._pixels.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
        targets = torch.empty((count, self._targets.shape[1]), pin_memory=pinned)
        np.take(self._targets, recipe.images, axis=0, out=targets.numpy(), mode="clip")
        if recipe.symmetries is None:
            # "clip" writes directly to the output, while the default goes through a copy.
            np.take(self._pixels, recipe.images, axis=0, out=pixels.numpy(), mode="clip")
        else:
            # One image at a time is three times as fast as one symmetry at a time, and ten times
            # as fast as choosing between whole transformed batches.
            whole = whole_pixels(pixels.numpy())
            for at, (image, symmetry) in enumerate(
                zip(recipe.images.tolist(), recipe.symmetries.tolist(), strict=True)
            ):
                whole[at] = self._views[symmetry][image]
        return Batch(pixels, targets)
