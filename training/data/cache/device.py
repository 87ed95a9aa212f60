"""Images and targets that lie in a device's memory, from which batches are gathered there."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from canopy_search.training.data.images.augmentation import symmetric_views

_COPIED_AT_ONCE_BYTES = 2**26


class DeviceImages:
    """Some images of a set with their targets, in the memory of the device that trains on them.

    Batches are gathered on the device and are equal to those from the memory map, bit for bit:
    bytes are moved, and nothing is computed.

    Args:
        pixels: (images, image_px, image_px, 3), uint8; usually the memory map.
        targets: (images, labels), uint8.
        rows: of the images to hold.
        device: in whose memory.

    Attributes:
        device: in whose memory they are.
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
        self._places = np.full(len(pixels), -1, np.int64)
        self._places[rows] = np.arange(len(rows))
        self._pixels = torch.empty((len(rows), *pixels.shape[1:]), dtype=torch.uint8, device=device)
        plain = np.asarray(pixels)
        at_once = max(1, _COPIED_AT_ONCE_BYTES // (plain[0].nbytes if len(plain) else 1))
        for start in range(0, len(rows), at_once):
            part = torch.from_numpy(plain[rows[start : start + at_once]])
            self._pixels[start : start + len(part)].copy_(part)
        self._targets = torch.from_numpy(targets[rows].astype(np.float32)).to(device)
        self._pixel_orders = torch.from_numpy(_pixel_orders(self._image_px)).to(device)

    def holds(self, rows: NDArray[np.int64]) -> bool:
        """Whether all these images are held."""
        return bool((self._places[rows] >= 0).all())

    def places(self, rows: NDArray[np.int64]) -> Tensor:
        """Returns where images lie, (images,), int64, on the device."""
        return self.on_device(self._places[rows])

    def on_device(self, numbers: NDArray[np.int64]) -> Tensor:
        """Returns numbers in the device's memory."""
        return torch.from_numpy(np.ascontiguousarray(numbers)).to(self.device)

    def gather(self, places: Tensor, symmetries: Tensor | None) -> tuple[Tensor, Tensor]:
        """Copies a batch, on the device.

        Args:
            places: (batch,), as from `places`.
            symmetries: (batch,), int64, on the device; None leaves every image as it is.

        Returns:
            Pixels, (batch, image_px, image_px, 3), uint8, and targets, (batch, labels), float32.
        """
        targets = self._targets.index_select(0, places)
        if symmetries is None:
            return self._pixels.index_select(0, places), targets
        # A symmetry is an order of an image's pixels: one kernel gathers all images of the batch.
        orders = self._pixel_orders.index_select(0, symmetries)
        chosen = (places * self._image_px**2).unsqueeze(1) + orders
        pixels = self._pixels.view(-1, 3).index_select(0, chosen.view(-1))
        return pixels.view(len(places), *self._pixels.shape[1:]), targets


def device_bytes(pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> int:
    """Returns how many bytes the pixels of some images have."""
    return len(rows) * int(np.prod(pixels.shape[1:]))


def _pixel_orders(image_px: int) -> NDArray[np.int64]:
    """Returns which pixel comes to each place under each of the symmetries, (8, image_px²)."""
    numbers = np.arange(image_px**2, dtype=np.int64).reshape(1, image_px, image_px)
    return np.stack([view.reshape(-1) for view in symmetric_views(numbers)])
