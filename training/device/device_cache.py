"""Caches images in the device's memory.

Runs of one process that train on the same data share the cache.
"""

from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch

from canopy_search.training.data.cache.device_images import DeviceImages, device_bytes
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.device.memory import available_bytes
from canopy_search.training.device.out_of_memory import is_out_of_memory
from canopy_search.training.errors import SettingsError
from canopy_search.training.sizes import size_text

DeviceCache = Literal["auto", "on", "off"]

FREE_SHARE = 0.25
"""The largest share that `auto` takes of the memory that is free when the first run starts.

Training needs the rest. Workers that share the GPU divide this share: each has its own copy.
"""


@dataclass
class _ThisProcess:
    workers_on_gpu: int = 1


_THIS_PROCESS = _ThisProcess()
_KEPT: WeakKeyDictionary[Dataset, DeviceImages] = WeakKeyDictionary()
_GIVEN_UP: WeakKeyDictionary[Dataset, bool] = WeakKeyDictionary()


def images_on_device(
    dataset: Dataset, setting: DeviceCache, device: torch.device
) -> DeviceImages | None:
    """Returns the training and validation images in the device's memory, None if not cached.

    ``auto`` caches them on a CUDA GPU if they take at most `FREE_SHARE` of its free memory, divided
    by the workers on the GPU; see `share_gpu`. ``on`` caches them on any device; on the CPU this
    copies the memory map.

    Raises:
        SettingsError: the setting is ``on``, and they do not fit.
    """
    if setting == "off" or (setting == "auto" and not _may_cache(dataset, device)):
        return None
    on_device = _KEPT.get(dataset)
    if on_device is None or on_device.device != device:
        on_device = _cached(dataset, setting, device)
    return on_device


def share_gpu(workers: int) -> None:
    """Says how many workers train on the GPU of this process, itself included."""
    _THIS_PROCESS.workers_on_gpu = workers


def release_images(dataset: Dataset, setting: DeviceCache) -> bool:
    """Frees the cached images of a data set for good, if ``auto`` had cached them.

    Args:
        dataset: the data set of the images.
        setting: of the run that ran out of memory.

    Returns:
        Whether memory was freed.
    """
    if setting != "auto" or _KEPT.pop(dataset, None) is None:
        return False
    _GIVEN_UP[dataset] = True
    return True


def _may_cache(dataset: Dataset, device: torch.device) -> bool:
    if device.type != "cuda" or dataset in _GIVEN_UP:
        return False
    if dataset in _KEPT:
        return True
    share = FREE_SHARE / _THIS_PROCESS.workers_on_gpu
    return _size_bytes(dataset) <= share * available_bytes(device)


def _cached(dataset: Dataset, setting: DeviceCache, device: torch.device) -> DeviceImages | None:
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
