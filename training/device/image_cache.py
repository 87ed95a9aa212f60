"""Which runs keep the images in their device's memory, and for how long.

The runs of one process that train on the same data share them.
"""

from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch

from canopy_search.training.data.cache.device import DeviceImages, device_bytes
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.device.memory import available_bytes
from canopy_search.training.device.out_of_memory import is_out_of_memory
from canopy_search.training.errors import SettingsError
from canopy_search.training.sizes import size_text

DeviceCache = Literal["auto", "on", "off"]

FREE_SHARE = 0.25
"""What `auto` takes at most of the memory that is free when the first run begins.

Training needs the rest, and so do other workers of the GPU, each of which holds the images itself.
"""

_KEPT: WeakKeyDictionary[Dataset, DeviceImages] = WeakKeyDictionary()
_GIVEN_UP: WeakKeyDictionary[Dataset, bool] = WeakKeyDictionary()


def images_on_device(
    dataset: Dataset, setting: DeviceCache, device: torch.device
) -> DeviceImages | None:
    """Returns the images to train and validate on in the device's memory, None for none there.

    ``auto`` holds them on a CUDA GPU of which they take at most `FREE_SHARE` of the free memory.
    ``on`` holds them on any device, the CPU too, where that is a copy of what the memory map has.

    Raises:
        SettingsError: ``on``, and they do not fit.
    """
    if setting == "off" or (setting == "auto" and not _pays(dataset, device)):
        return None
    on_device = _KEPT.get(dataset)
    if on_device is None or on_device.device != device:
        on_device = _keep(dataset, setting, device)
    return on_device


def release_images(dataset: Dataset, setting: DeviceCache) -> bool:
    """Gives the memory of a data set's images back for good, where ``auto`` had taken it.

    Args:
        dataset: whose images.
        setting: of the run that has no room.

    Returns:
        Whether there is more room now.
    """
    if setting != "auto" or _KEPT.pop(dataset, None) is None:
        return False
    _GIVEN_UP[dataset] = True
    return True


def _pays(dataset: Dataset, device: torch.device) -> bool:
    if device.type != "cuda" or dataset in _GIVEN_UP:
        return False
    if dataset in _KEPT:
        return True
    return _size_bytes(dataset) <= FREE_SHARE * available_bytes(device)


def _keep(dataset: Dataset, setting: DeviceCache, device: torch.device) -> DeviceImages | None:
    split = dataset.split
    rows = np.concatenate([split.train, split.validation])
    try:
        on_device = DeviceImages(dataset.pixels, dataset.targets, rows, device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if setting == "auto":
            _GIVEN_UP[dataset] = True
            return None
        raise SettingsError(
            f"training.device_cache: the images take {size_text(_size_bytes(dataset))}, and "
            f"{size_text(available_bytes(device))} are free on {device}; set it to auto or off"
        ) from error
    _KEPT[dataset] = on_device
    return on_device


def _size_bytes(dataset: Dataset) -> int:
    return device_bytes(dataset.pixels, dataset.split.train) + device_bytes(
        dataset.pixels, dataset.split.validation
    )
