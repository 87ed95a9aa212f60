"""The cache of decoded images: one memory-mapped file that all runs on a machine share."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.images import DECODING_RULE, decode_image
from training.data.parallel import map_in_order, runs, usable_cores
from training.data.published import publish_folder
from training.errors import ImageError, SettingsError

_REVISION = "canopy pixels 1"
_PIXELS = "pixels.bin"
_META = "meta.json"
_IMAGES_PER_TASK = 32
_BYTES_PER_TASK = 8 * 2**20
_GIB = 2**30


@dataclass(frozen=True)
class _Contents:
    """What a cache holds: the images by their digests, in order, and their size."""

    digests: Sequence[str]
    image_px: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.digests), self.image_px, self.image_px, 3

    @property
    def size_bytes(self) -> int:
        return len(self.digests) * self.image_px * self.image_px * 3

    @property
    def meta(self) -> dict[str, object]:
        """What meta.json says. Its key covers everything that decides about the pixels."""
        rule = [_REVISION, DECODING_RULE, self.image_px, *self.digests]
        key = hashlib.sha256(json.dumps(rule).encode()).hexdigest()
        return {"key": key, "shape": list(self.shape), "decoding": DECODING_RULE}


def open_cache(
    folder: Path,
    paths: Sequence[Path],
    digests: Sequence[str],
    image_px: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Opens the cache of these images, building it first if need be.

    Args:
        folder: where caches are kept.
        paths: the image files.
        digests: SHA-256 of each file, hexadecimal.
        image_px: side of the decoded squares.
        on_progress: called with (images decoded, images) while the cache is built.

    Returns:
        (images, image_px, image_px, 3), uint8, a read-only memory map in the order of the paths.

    Raises:
        ImageError: an image cannot be decoded, or changed since its digest was taken.
        SettingsError: the disk has no room for the cache.
    """
    contents = _Contents(digests, image_px)
    meta = contents.meta
    cache = folder / str(meta["key"])

    def is_complete(candidate: Path) -> bool:
        return _meta_of(candidate) == meta and _size_of(candidate) == contents.size_bytes

    def build(partial: Path) -> None:
        _check_free_space(partial, contents.size_bytes)
        try:
            _write_pixels(partial / _PIXELS, paths, contents, on_progress)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise SettingsError(_no_room(partial, contents.size_bytes)) from error
        (partial / _META).write_text(json.dumps(meta, indent=1))

    publish_folder(cache, is_complete, build)
    return np.memmap(cache / _PIXELS, np.uint8, mode="r", shape=contents.shape)


def _meta_of(cache: Path) -> object:
    try:
        return json.loads((cache / _META).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _size_of(cache: Path) -> int | None:
    try:
        return (cache / _PIXELS).stat().st_size
    except FileNotFoundError:
        return None


def _check_free_space(folder: Path, needed_bytes: int) -> None:
    if shutil.disk_usage(folder).free < needed_bytes:
        raise SettingsError(_no_room(folder, needed_bytes))


def _no_room(folder: Path, needed_bytes: int) -> str:
    return (
        f"{folder.parent}: the cache of decoded images needs {needed_bytes / _GIB:.2f} GiB, "
        f"{shutil.disk_usage(folder).free / _GIB:.2f} GiB are free; make room, lower "
        "data.image_px, or set CANOPY_HOME to a folder on a larger disk"
    )


def _write_pixels(
    file: Path,
    paths: Sequence[Path],
    contents: _Contents,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Decodes all images in threads and appends them to the file in order.

    Plain writes instead of a writable memory map: a disk that fills up is then an error, not a
    signal that ends the process.
    """
    total = len(paths)
    image_bytes = contents.image_px * contents.image_px * 3
    tasks = runs(total, max(1, min(_IMAGES_PER_TASK, _BYTES_PER_TASK // image_bytes)))
    cores = usable_cores()

    def decode(positions: range) -> NDArray[np.uint8]:
        return np.stack(
            [
                _decode_checked(paths[at], contents.digests[at], contents.image_px)
                for at in positions
            ]
        )

    done = 0
    with file.open("wb") as output:
        for images in map_in_order(decode, tasks, threads=cores, ahead=4 * cores):
            output.write(images.data)
            done += len(images)
            if on_progress:
                on_progress(done, total)
        # Before the folder is moved into place, or a power cut leaves a file of the right size
        # with holes in it.
        output.flush()
        os.fsync(output.fileno())


def _decode_checked(path: Path, digest: str, image_px: int) -> NDArray[np.uint8]:
    """Decodes an image if it still has the bytes that the cache's key speaks of."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise ImageError(
            f"{path}: changed since its digest was taken; let nothing write to the images, "
            "touch this file so that it is read anew, and start again"
        )
    return decode_image(content, image_px, name=str(path))
