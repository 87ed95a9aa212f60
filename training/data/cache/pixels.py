"""The cache of decoded images: one memory-mapped file shared by all runs on a machine."""

import errno
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from canopy_search.filestore.atomic import build_atomically
from canopy_search.training.data.files.parallel import map_in_order, runs, usable_cores
from canopy_search.training.data.files.sources import (
    ImageFile,
    reported,
    threads_for,
    waiting_ender,
)
from canopy_search.training.data.images.decoding import (
    DECODING_RULE,
    DamagedImageError,
    decode_image,
)
from canopy_search.training.errors import DiskFullError, ImageError
from canopy_search.training.sizes import size_text

Decoded = NDArray[np.uint8] | tuple[str, str]
"""The decoded square of an image, or kind and detail of its `DamagedImageError`."""

Known = Callable[[str], Decoded | None]
"""Digest of an image → its earlier decoding result, None if there is none."""

_REVISION = "canopy pixels 2"
_PIXELS = "pixels.bin"
_META = "meta.json"
_DIGESTS = "digests"
_IMAGES_PER_TASK = 32
_BYTES_PER_TASK = 8 * 2**20


class Damaged(NamedTuple):
    """An image that cannot be decoded: its position, and the facts of its `DamagedImageError`."""

    position: int
    kind: str
    detail: str


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """The images of a cache.

    Attributes:
        pixels: (images, image_px, image_px, 3), uint8, a read-only memory map in the order of the
            files, without the damaged ones.
        damaged: the damaged images.
    """

    pixels: NDArray[np.uint8]
    damaged: list[Damaged] = field(default_factory=list)


def open_cache(
    folder: Path,
    paths: Sequence[ImageFile],
    digests: Sequence[str],
    image_px: int,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    known: Known | None = None,
) -> DecodedImages:
    """Opens the cache of these images and builds it if needed.

    Args:
        folder: where caches are stored.
        paths: the image files.
        digests: SHA-256 of each file, hexadecimal.
        image_px: side of the decoded squares.
        on_progress: called with (images decoded, images) while the cache is built.
        known: finds images that are decoded already.

    Raises:
        ImageError: an image changed or disappeared after it was hashed.
        DiskFullError: the disk has too little free space for the cache.
    """
    key = _key(digests, image_px)
    cache = folder / key

    def build(partial: Path) -> None:
        check_free_space(partial, cache_bytes(len(paths), image_px))
        try:
            damaged = _write_pixels(
                partial / _PIXELS, paths, digests, image_px, on_progress, known or _find_nothing
            )
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFullError(_no_room(partial, cache_bytes(len(paths), image_px))) from error
        meta = {"key": key, "decoding": DECODING_RULE, "damaged": damaged}
        (partial / _META).write_text(json.dumps(meta, indent=1))
        (partial / _DIGESTS).write_text("\n".join(digests))

    def is_complete(candidate: Path) -> bool:
        return _read_damaged(candidate, key, len(paths), image_px) is not None

    build_atomically(cache, is_complete, build)
    damaged = _read_damaged(cache, key, len(paths), image_px) or []
    shape = (len(paths) - len(damaged), image_px, image_px, 3)
    if not shape[0]:
        return DecodedImages(np.empty(shape, np.uint8), damaged)
    return DecodedImages(np.memmap(cache / _PIXELS, np.uint8, mode="r", shape=shape), damaged)


def is_cached(folder: Path, digests: Sequence[str], image_px: int) -> bool:
    """Whether these images are cached, so that `open_cache` returns at once.

    Args:
        folder: where caches are stored.
        digests: SHA-256 of each file, hexadecimal.
        image_px: side of the decoded squares.
    """
    key = _key(digests, image_px)
    return _read_damaged(folder / key, key, len(digests), image_px) is not None


def _key(digests: Sequence[str], image_px: int) -> str:
    """Returns the cache's name, a digest of everything that determines the pixels."""
    rule = [_REVISION, DECODING_RULE, image_px, *digests]
    return hashlib.sha256(json.dumps(rule).encode()).hexdigest()


def cache_bytes(images: int, image_px: int) -> int:
    """Returns the size of the cache of a number of images."""
    return images * image_px * image_px * 3


def _read_damaged(cache: Path, key: str, images: int, image_px: int) -> list[Damaged] | None:
    """Returns a cache's damaged images; None if it is missing, partial or has another key."""
    try:
        meta: Any = json.loads((cache / _META).read_bytes())
        size = (cache / _PIXELS).stat().st_size
        damaged = [Damaged(*entry) for entry in meta["damaged"]]
        is_whole = meta["key"] == key and size == cache_bytes(images - len(damaged), image_px)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return damaged if is_whole else None


def check_free_space(folder: Path, needed_bytes: int) -> None:
    """Checks that a disk has enough free space for decoded images.

    Args:
        folder: on the disk, in the folder of caches or next to it.
        needed_bytes: size of all images.

    Raises:
        DiskFullError: there is too little free space.
    """
    if shutil.disk_usage(folder).free < needed_bytes:
        raise DiskFullError(_no_room(folder, needed_bytes))


def _no_room(folder: Path, needed_bytes: int) -> str:
    return (
        f"{folder.parent}: the cache of decoded images needs {size_text(needed_bytes)}, "
        f"{size_text(shutil.disk_usage(folder).free)} are free; make room, lower data.image_px, "
        "or set CANOPY_HOME to a folder on a larger disk"
    )


def _write_pixels(  # noqa: PLR0917 - inputs and decoding options
    file: Path,
    paths: Sequence[ImageFile],
    digests: Sequence[str],
    image_px: int,
    on_progress: Callable[[int, int], None] | None,
    known: Known,
) -> list[Damaged]:
    """Decodes all images in threads and appends them to the file in order.

    It uses plain writes instead of a writable memory map, so that a full disk raises an error and
    does not kill the process with a signal.

    Returns:
        The images that cannot be decoded and so are not in the file.
    """
    total = len(paths)
    tasks = runs(total, max(1, min(_IMAGES_PER_TASK, _BYTES_PER_TASK // cache_bytes(1, image_px))))
    threads = threads_for(paths)

    def decode(positions: range) -> list[Decoded]:
        return [_decode_checked(paths[at], digests[at], image_px, known) for at in positions]

    done = 0
    damaged = []
    with file.open("wb") as output:
        for images in map_in_order(
            decode, tasks, threads=threads, ahead=4 * usable_cores(), stop=waiting_ender(paths)
        ):
            for at, image in enumerate(images, start=done):
                if isinstance(image, tuple):
                    damaged.append(Damaged(at, *image))
                else:
                    output.write(image.data)
            done += len(images)
            if on_progress:
                on_progress(done, total)
        # Before the folder is renamed; otherwise a power failure could leave a file of the right
        # size with holes.
        output.flush()
        os.fsync(output.fileno())
    return damaged


def _decode_checked(path: ImageFile, digest: str, image_px: int, known: Known) -> Decoded:
    """Decodes an image after checking that its bytes match its digest."""
    before = known(digest)
    if before is not None:
        return before
    try:
        with reported(ImageError):
            content = path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"{path}: can no longer be read: {error.strerror or error}; do not change images while "
            "they are read, and start again"
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise ImageError(
            f"{path}: changed after it was hashed; do not change images while they are read, touch "
            "this file so that it is read again, and start again"
        )
    return decoded(content, image_px, str(path))


def decoded(content: bytes, image_px: int, name: str) -> Decoded:
    """Returns the decoded square of an image, or why it cannot be decoded.

    Args:
        content: of the image file.
        image_px: side of the square.
        name: of the file.
    """
    try:
        return decode_image(content, image_px, name=name)
    except DamagedImageError as error:
        return error.kind, error.detail


def cached_before(folder: Path, image_px: int) -> Known:
    """Returns a function that finds images in all caches of this size; it reads them lazily.

    Args:
        folder: where caches are stored.
        image_px: side of the decoded squares.
    """

    @functools.cache
    def positions() -> dict[str, tuple[NDArray[np.uint8], int]]:
        return {
            digest: (pixels, row)
            for cache in folder.glob("*")
            for pixels, digests in [_squares_of(cache, image_px)]
            for row, digest in enumerate(digests)
        }

    def find(digest: str) -> NDArray[np.uint8] | None:
        if digest not in positions():
            return None
        pixels, row = positions()[digest]
        return np.array(pixels[row])

    return find


def _squares_of(cache: Path, image_px: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Returns a cache's squares and the digests of their files; empty if it is not usable."""
    nothing = np.empty((0, image_px, image_px, 3), np.uint8)
    try:
        digests = (cache / _DIGESTS).read_text().split("\n")
        key = _key(digests, image_px)
        damaged = _read_damaged(cache, key, len(digests), image_px) if cache.name == key else None
        if damaged is None or len(damaged) == len(digests):
            return nothing, []
        damaged_positions = {image.position for image in damaged}
        whole = [digest for at, digest in enumerate(digests) if at not in damaged_positions]
        shape = (len(whole), image_px, image_px, 3)
        return np.memmap(cache / _PIXELS, np.uint8, mode="r", shape=shape), whole
    except OSError:
        return nothing, []


def _find_nothing(_digest: str) -> None:
    return None
