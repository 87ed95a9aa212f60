"""Batches of pixels and targets, gathered ahead of the training loop by threads, or on the device.

Where the device holds the images, a batch is gathered there when it is asked for. Elsewhere threads
gather batches from the memory map ahead of the training loop, for a GPU into pinned memory, from
which they are copied while the batch before is trained on.
"""

import hashlib
import itertools
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from canopy_search.training.data.cache.device import DeviceImages
from canopy_search.training.data.files.parallel import map_in_order
from canopy_search.training.data.images.augmentation import (
    allowed_symmetries,
    symmetric_views,
    whole_pixels,
)
from canopy_search.training.data.uploading import uploaded


@dataclass(frozen=True, eq=False)
class Batch:
    """Images and their labels, on the device.

    Attributes:
        pixels: (batch, image_px, image_px, 3), uint8.
        targets: (batch, labels), float32, 0 or 1.
    """

    pixels: Tensor
    targets: Tensor

    def parts(self, count: int) -> Iterator["Batch"]:
        """Cuts the batch into parts whose sizes differ by one at most; views, not copies."""
        images = len(self.targets)
        ends = [images * (at + 1) // count for at in range(count)]
        for start, end in zip([0, *ends], ends, strict=False):
            yield Batch(self.pixels[start:end], self.targets[start:end])


def epoch_seed(seed: int, epoch: int) -> int:
    """Mixes a run's seed and the number of an epoch into the seed of all that epoch's randomness.

    It is the first eight bytes of ``SHA-256("<seed>/<epoch>")``, big-endian, without the highest
    bit: neighbouring seeds and epochs share nothing, and no two pairs are confused the way that
    ``seed + epoch`` confuses them.

    Returns:
        A number from 0 to 2**63 - 1, which every generator of torch accepts.
    """
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True, eq=False)
class _Recipe:
    """What goes into one batch.

    Attributes:
        images: (batch,), int64, rows of the pixels and targets.
        symmetries: (batch,), int64, or None where every image stays as it is.
    """

    images: NDArray[np.int64]
    symmetries: NDArray[np.int64] | None


class BatchLoader:
    """Cuts some images of a set into batches, for training or evaluation.

    An epoch has ``ceil(images / batch_size)`` batches whose sizes differ by at most one, so that
    no tiny last batch upsets batch normalisation. What is in them depends neither on the number
    of threads nor on how far they work ahead, because everything random is drawn before the first
    batch is gathered.

    Attributes:
        wait_s: seconds that the consumer was kept waiting for batches in the latest pass.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        targets: NDArray[np.uint8],
        indices: NDArray[np.int64],
        *,
        batch_size: int,
        device: torch.device,
        augment: Sequence[str] = (),
        threads: int = 1,
        prefetch: int = 4,
        on_device: DeviceImages | None = None,
    ) -> None:
        """Prepares the loader; threads start with a pass and end with it.

        Args:
            pixels: (images, image_px, image_px, 3), uint8, contiguous; usually the memory map.
            targets: (images, labels), uint8.
            indices: rows of the images to load.
            batch_size: largest size of a batch.
            device: where batches are delivered.
            augment: of ``hflip``, ``vflip``, ``rot90``; training images are turned and mirrored
                by a symmetry that is drawn evenly from those that these generate.
            threads: number of threads that gather batches.
            prefetch: number of batches that are gathered ahead.
            on_device: the same images in the memory of `device`; read where it holds all of
                `indices`, which changes no batch.

        Raises:
            IndexError: an index is not a row of the pixels; gathering does not look again.
        """
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(pixels):
            raise IndexError(
                f"expected indices from 0 to {len(pixels) - 1}, "
                f"found {indices.min()} to {indices.max()}"
            )
        self.wait_s = 0.0
        self._indices = indices
        self._batches = -(-len(indices) // batch_size)
        self._device = device
        self._symmetries = allowed_symmetries(augment)
        self._threads = threads
        self._prefetch = prefetch
        # A view without the memory map's class, whose indexing takes twice as long.
        self._pixels = np.asarray(pixels)
        self._views = symmetric_views(whole_pixels(self._pixels))
        self._targets = targets.astype(np.float32)
        self._on_device = on_device if on_device is not None and on_device.holds(indices) else None

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return self._batches

    def training_batches(self, seed: int, epoch: int) -> Generator[Batch]:
        """Every image once, in an order and with symmetries that follow from seed and epoch.

        Close it to end its threads, where it is not taken to its end.
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
        """Every image once, as it is, in the order of the indices; closed likewise."""
        return self._deliver(self._indices, None)

    def _cuts(self, count: int) -> Iterator[slice]:
        """Where an epoch of so many images is cut into batches."""
        ends = [count * (at + 1) // self._batches for at in range(self._batches)]
        return itertools.starmap(slice, zip([0, *ends], ends, strict=False))

    def _deliver(
        self, images: NDArray[np.int64], symmetries: NDArray[np.int64] | None
    ) -> Generator[Batch]:
        """Yields the batches on the device and counts the time spent waiting for them."""
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
        """Gathers each batch on the device when it is asked for."""
        places = on_device.places(images)
        drawn = None if symmetries is None else on_device.on_device(symmetries)
        for cut in self._cuts(len(images)):
            yield Batch(*on_device.gather(places[cut], None if drawn is None else drawn[cut]))

    def _from_host(
        self, images: NDArray[np.int64], symmetries: NDArray[np.int64] | None
    ) -> Generator[Batch]:
        """Gathers batches ahead, in threads, and brings them to the device."""
        recipes = [
            _Recipe(images[cut], None if symmetries is None else symmetries[cut])
            for cut in self._cuts(len(images))
        ]
        gathered = map_in_order(self._gather, recipes, threads=self._threads, ahead=self._prefetch)
        with closing(gathered):
            for pixels, targets in uploaded(
                ((batch.pixels, batch.targets) for batch in gathered), self._device
            ):
                yield Batch(pixels, targets)

    def _gather(self, recipe: _Recipe) -> Batch:
        """Copies the images of one batch out of the memory map, in a thread."""
        pinned = self._device.type == "cuda"
        count = len(recipe.images)
        pixels = torch.empty((count, *self._pixels.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
        targets = torch.empty((count, self._targets.shape[1]), pin_memory=pinned)
        np.take(self._targets, recipe.images, axis=0, out=targets.numpy(), mode="clip")
        if recipe.symmetries is None:
            # "clip" writes straight into the output, where the default goes through a copy.
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
