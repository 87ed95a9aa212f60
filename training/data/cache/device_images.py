"""Images and targets in a device's memory, where batches are gathered."""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from canopy_search.training.data.images.augmentation import symmetric_views
from canopy_search.training.data.labels.targets import as_float

_COPIED_AT_ONCE_BYTES = 2**26
_INDEXED_AT_ONCE = 2**22
"""Pixels of a batch that are gathered at once by an index for each: 16 MiB of indices."""


class DeviceImages:
    """Images of a data set with their targets, in the memory of the training device.

    Batches are gathered on the device and equal those from the memory map bit for bit, because
    bytes are only copied.

    Args:
        pixels: (images, image_px, image_px, 3), uint8; usually the memory map.
        targets: (images, labels), uint8.
        rows: the images to hold.
        device: the device that holds them.

    Attributes:
        device: the device that holds the images.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        targets: NDArray[np.uint8],
        rows: NDArray[np.int64],
        device: torch.device,
    ) -> None:
        self.device = device
        self._image_px = pixels.shape[1]
        self._positions = np.full(len(pixels), -1, np.int64)
        self._positions[rows] = np.arange(len(rows))
        self._pixels = torch.empty((len(rows), *pixels.shape[1:]), dtype=torch.uint8, device=device)
        plain = np.asarray(pixels)
        at_once = max(1, _COPIED_AT_ONCE_BYTES // (plain[0].nbytes if len(plain) else 1))
        for start in range(0, len(rows), at_once):
            part = torch.from_numpy(plain[rows[start : start + at_once]])
            self._pixels[start : start + len(part)].copy_(part)
        self._targets = torch.from_numpy(as_float(targets[rows])).to(device)

    def holds(self, rows: NDArray[np.int64]) -> bool:
        """Whether the device holds all these images."""
        return bool((self._positions[rows] >= 0).all())

    def positions(self, rows: NDArray[np.int64]) -> Tensor:
        """Returns the positions of images in the device's memory, (images,), int64."""
        return self.copied(self._positions[rows])

    def copied(self, numbers: NDArray[np.int64]) -> Tensor:
        """Returns the numbers, copied to the device."""
        return torch.from_numpy(np.ascontiguousarray(numbers)).to(self.device)

    def gather(self, positions: Tensor, symmetries: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gathers a batch on the device.

        Args:
            positions: (batch,), from `positions`.
            symmetries: (batch,), int64, on the device; None leaves every image unchanged.

        Returns:
            Pixels, (batch, image_px, image_px, 3), uint8, and targets, (batch, labels), float32.
        """
        targets = self._targets.index_select(0, positions)
        if symmetries is None:
            return self._pixels.index_select(0, positions), targets
        at_once = max(1, _INDEXED_AT_ONCE // self._image_px**2)
        parts = zip(torch.split(positions, at_once), torch.split(symmetries, at_once), strict=True)
        return torch.cat([self._transformed(*part) for part in parts]), targets

    def _transformed(self, positions: Tensor, symmetries: Tensor) -> Tensor:
        """Gathers some images; a symmetry permutes their pixels, so one kernel gathers all."""
        images = self._pixels.index_select(0, positions)
        first_pixels = torch.arange(len(images), dtype=torch.int32, device=self.device)
        orders = self._pixel_orders.index_select(0, symmetries)
        chosen = (first_pixels * self._image_px**2).unsqueeze(1) + orders
        return images.view(-1, 3).index_select(0, chosen.view(-1)).view(images.shape)

    @cached_property
    def _pixel_orders(self) -> Tensor:
        """The source pixel of each position for each symmetry, (8, image_px²), int32."""
        return torch.from_numpy(_pixel_orders(self._image_px)).to(self.device)


def device_bytes(pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> int:
    """Returns the size of the pixels of some images, in bytes."""
    return len(rows) * int(np.prod(pixels.shape[1:]))


def _pixel_orders(image_px: int) -> NDArray[np.int32]:
    """Returns the source pixel of each position for each of the symmetries, (8, image_px²)."""
    numbers = np.arange(image_px**2, dtype=np.int32).reshape(1, image_px, image_px)
    return np.stack([view.reshape(-1) for view in symmetric_views(numbers)])
