"""Caches of decoded images, each one memory-mapped file shared by all runs on a machine."""

import errno
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from canopy_search.filestore.atomic import build_atomically, write_atomically
from canopy_search.training.data.files.parallel import map_in_order, runs, usable_cores
from canopy_search.training.data.files.sources import (
    ImageFile,
    read_image,
    reported,
    threads_for,
    waiting_ender,
)
from canopy_search.training.data.images.conversion import AS_STORED, Conversion
from canopy_search.training.data.images.decoding import DECODING_RULE, decode_image
from canopy_search.training.errors import DamagedImageError, DiskFullError, ImageError
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
        conversion: how stored values became colours, without ``auto``.
    """

    pixels: NDArray[np.uint8]
    damaged: list[Damaged]
    conversion: Conversion


@dataclass(frozen=True)
class PixelCaches:
    """All caches of one image size and one conversion in a folder.

    Attributes:
        folder: where caches are stored.
        image_px: side of the decoded squares.
        conversion: how stored values become colours.
        asked: the conversion before an ``auto`` of it was decided; None without.
    """

    folder: Path
    image_px: int
    conversion: Conversion = AS_STORED
    asked: Conversion | None = None

    def decided(self, conversion: Conversion) -> "PixelCaches":
        """Returns the caches of a conversion of which an ``auto`` is decided."""
        return replace(self, conversion=conversion, asked=self.asked or self.conversion)

    @property
    def rule(self) -> list[Any]:
        """What determines an image's pixels besides its bytes, as JSON values."""
        rule = [DECODING_RULE, self.image_px, *self.conversion.differences]
        # A cache made without a background must not answer whether an image is transparent.
        return rule if self.conversion.background else [*rule, "transparency dropped"]

    def open(
        self,
        paths: Sequence[ImageFile],
        digests: Sequence[str],
        on_progress: Callable[[int, int], None] | None = None,
        known: Known = lambda _digest: None,
    ) -> DecodedImages:
        """Opens the cache of some images and builds it if needed.

        Args:
            paths: the image files.
            digests: SHA-256 of each file, hexadecimal.
            on_progress: called with (images decoded, images) while the cache is built.
            known: finds images that are decoded already.

        Raises:
            ImageError: an image changed or disappeared after it was hashed.
            DiskFullError: the disk has too little free space for the cache.
            UndecidedError: an image depends on a setting of the conversion that is ``auto``.
        """
        remembered = self._remembered(digests)
        if remembered is not None:
            return self.decided(remembered).open(paths, digests, on_progress)
        key = self._key(digests)

        def build(partial: Path) -> None:
            needed_bytes = cache_bytes(len(paths), self.image_px)
            check_free_space(partial, needed_bytes)
            decoded_in_order = self._decoded(paths, digests, on_progress, known)
            try:
                damaged = _write_pixels(partial / _PIXELS, decoded_in_order)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise DiskFullError(_no_room(partial, needed_bytes)) from error
            meta = {"key": key, "decoding": DECODING_RULE, "damaged": damaged}
            (partial / _META).write_text(json.dumps(meta, indent=1))
            (partial / _DIGESTS).write_text("\n".join(digests))

        def is_complete(folder: Path) -> bool:
            return self._read(folder, digests) is not None

        build_atomically(self.folder / key, is_complete, build)
        found = self._read(self.folder / key, digests)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.folder / key)
        if self.asked is not None:
            write_atomically(
                replace(self, conversion=self.asked)._decision(digests),
                json.dumps(asdict(self.conversion)).encode(),
            )
        return found

    def contains(self, digests: Sequence[str]) -> bool:
        """Whether these images are cached, so that `open` returns at once."""
        caches = self.decided(self._remembered(digests) or self.conversion)
        return caches._read(self.folder / caches._key(digests), digests) is not None

    def _remembered(self, digests: Sequence[str]) -> Conversion | None:
        """Returns what was decided for these images; None if nothing was, or need be."""
        if self.asked is not None or "auto" not in {
            self.conversion.range,
            self.conversion.background,
        }:
            return None
        try:
            return Conversion.from_json(json.loads(self._decision(digests).read_bytes()))
        except (FileNotFoundError, ValueError, AttributeError, TypeError):
            return None

    def _decision(self, digests: Sequence[str]) -> Path:
        """Returns the file that keeps the decided conversion of these images."""
        asked = json.dumps([self._key(digests), asdict(self.conversion)])
        return self.folder / f"{hashlib.sha256(asked.encode()).hexdigest()}.json"

    def finder(self) -> Known:
        """Returns a function that finds images in all caches; it reads them lazily."""

        @functools.cache
        def squares() -> dict[str, tuple[NDArray[np.uint8], int]]:
            return {
                digest: (pixels, row)
                for cache in self.folder.glob("*")
                for pixels, digests in [self._squares_of(cache)]
                for row, digest in enumerate(digests)
            }

        def find(digest: str) -> NDArray[np.uint8] | None:
            if digest not in squares():
                return None
            pixels, row = squares()[digest]
            return np.array(pixels[row])

        return find

    def _key(self, digests: Sequence[str]) -> str:
        """Returns the name of a cache, a digest of everything that determines the pixels."""
        return hashlib.sha256(json.dumps([_REVISION, *self.rule, *digests]).encode()).hexdigest()

    def _read(self, cache: Path, digests: Sequence[str]) -> DecodedImages | None:
        """Returns the images of a cache; None if it is missing, partial or of other images."""
        try:
            meta: Any = json.loads((cache / _META).read_bytes())
            size = (cache / _PIXELS).stat().st_size
            damaged = [Damaged(*entry) for entry in meta["damaged"]]
            shape = (len(digests) - len(damaged), self.image_px, self.image_px, 3)
            if meta["key"] != self._key(digests) or size != cache_bytes(shape[0], self.image_px):
                return None
        except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if not shape[0]:
            return DecodedImages(np.empty(shape, np.uint8), damaged, self.conversion.settled)
        pixels = np.memmap(cache / _PIXELS, np.uint8, mode="r", shape=shape)
        return DecodedImages(pixels, damaged, self.conversion.settled)

    def _squares_of(self, cache: Path) -> tuple[NDArray[np.uint8], list[str]]:
        """Returns a cache's squares and the digests of their files; empty if it is not usable."""
        found = None
        try:
            digests = (cache / _DIGESTS).read_text().split("\n")
            if cache.name == self._key(digests):
                found = self._read(cache, digests)
        except (OSError, ValueError):
            found = None
        if found is None:
            return np.empty((0, self.image_px, self.image_px, 3), np.uint8), []
        damaged = {image.position for image in found.damaged}
        return found.pixels, [digest for at, digest in enumerate(digests) if at not in damaged]

    def _decoded(
        self,
        paths: Sequence[ImageFile],
        digests: Sequence[str],
        on_progress: Callable[[int, int], None] | None,
        known: Known,
    ) -> Iterator[Decoded]:
        """Decodes all images in threads; yields them in order."""
        square_bytes = cache_bytes(1, self.image_px)
        tasks = runs(len(paths), max(1, min(_IMAGES_PER_TASK, _BYTES_PER_TASK // square_bytes)))
        done = 0
        for images in map_in_order(
            lambda run: [self._decode(paths[at], digests[at], known) for at in run],
            tasks,
            threads=threads_for(paths),
            ahead=4 * usable_cores(),
            stop=waiting_ender(paths),
        ):
            yield from images
            done += len(images)
            if on_progress:
                on_progress(done, len(paths))

    def _decode(self, path: ImageFile, digest: str, known: Known) -> Decoded:
        """Decodes an image after checking that its bytes match its digest."""
        before = known(digest)
        if before is not None:
            return before
        try:
            with reported(ImageError):
                content = read_image(path)
        except OSError as error:
            raise ImageError(
                f"{path}: can no longer be read: {error.strerror or error}; do not change images "
                "while they are read, and start again"
            ) from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise ImageError(
                f"{path}: changed after it was hashed; do not change images while they are read, "
                "touch this file so that it is read again, and start again"
            )
        return self.decoded(content)

    def decoded(self, content: bytes) -> Decoded:
        """Returns the decoded square of an image file, or why it cannot be decoded.

        Raises:
            UndecidedError: the image depends on a setting of the conversion that is ``auto``.
        """
        try:
            return decode_image(content, self.image_px, self.conversion)
        except DamagedImageError as error:
            return error.kind, error.detail


def cache_bytes(images: int, image_px: int) -> int:
    """Returns the size of the cache of a number of images."""
    return images * image_px * image_px * 3


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


def _write_pixels(file: Path, images: Iterable[Decoded]) -> list[Damaged]:
    """Writes the squares; returns the images that have none.

    It uses plain writes instead of a writable memory map, so that a full disk raises an error and
    does not kill the process with a signal.
    """
    damaged = []
    with file.open("wb") as output:
        for at, image in enumerate(images):
            if isinstance(image, tuple):
                damaged.append(Damaged(at, *image))
            else:
                output.write(image.data)
        # Before the folder is renamed; otherwise a power failure could leave a file of the right
        # size with holes.
        output.flush()
        os.fsync(output.fileno())
    return damaged


def _no_room(folder: Path, needed_bytes: int) -> str:
    return (
        f"{folder.parent}: the cache of decoded images needs {size_text(needed_bytes)}, "
        f"{size_text(shutil.disk_usage(folder).free)} are free; make room, lower data.image_px, "
        "or set CANOPY_HOME to a folder on a larger disk"
    )
