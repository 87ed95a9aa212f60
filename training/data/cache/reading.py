"""Reads digests and decoded pixels of image files, reading as few bytes as possible."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from canopy_search.training.data.cache.decode_buffer import DecodeBuffer
from canopy_search.training.data.cache.pixels import (
    Decoded,
    DecodedImages,
    PixelCaches,
    cache_bytes,
    check_free_space,
)
from canopy_search.training.data.files.parallel import map_in_order, runs
from canopy_search.training.data.files.sources import (
    ImageFile,
    RemoteFile,
    read_image,
    reported,
    threads_for,
    waiting_ender,
)
from canopy_search.training.data.images.conversion import (
    WHITE,
    Conversion,
    UndecidedError,
    fitting_range,
    some_values,
)
from canopy_search.training.data.images.digests import (
    Index,
    State,
    image_digests,
    read_index,
    write_index,
)
from canopy_search.training.data.images.stored import opened
from canopy_search.training.errors import DamagedImageError, ImageError

Progress = Callable[[str, int, int], None]
"""Called with the name of the phase, the amount done, and the total."""

_FILES_PER_TASK = 4
_SAMPLE = 64
_BUFFER_FOLDER = "spool"


@dataclass(frozen=True, eq=False)
class ReadImages:
    """Digests and pixels of image files.

    Attributes:
        positions: the positions of the usable files.
        digests: SHA-256 of each usable file, hexadecimal.
        pixels: (usable files, image_px, image_px, 3), uint8, as a read-only memory map.
        unusable: position of each other file → kind and detail of the problem.
        conversion: how stored values became colours, without ``auto``.
    """

    positions: list[int]
    digests: tuple[str, ...]
    pixels: NDArray[np.uint8]
    unusable: dict[int, tuple[str, str]]
    conversion: Conversion


def read_images(
    files: Sequence[ImageFile], index: Path, caches: PixelCaches, progress: Progress | None = None
) -> ReadImages:
    """Returns digests and pixels of images.

    Unchanged files are not read for their digests, and cached images are not decoded again. Local
    files are read twice, for the digest and for the pixels, which the page cache makes cheap.
    Remote files are read once for both; a lock lets one process per machine do this at a time, and
    the next ones find the result. If an image depends on a setting of the conversion that is
    ``auto``, it is decided for all images, some of which are then read once more.

    Args:
        files: all from one folder.
        index: the file that stores digests.
        caches: the caches of decoded images.
        progress: called in the phases ``reading images`` and ``decoding images``.

    Raises:
        ImageError: an image changes meanwhile, or the object storage cannot be read.
        DiskFullError: the disk has too little free space.
    """
    while True:
        try:
            return _read_images(files, index, caches, progress)
        except UndecidedError as undecided:
            caches = caches.decided(_decided(files, caches.conversion, undecided.setting))


def _read_images(
    files: Sequence[ImageFile], index: Path, caches: PixelCaches, progress: Progress | None
) -> ReadImages:
    on_reading, on_decoding = (
        partial(progress, phase) if progress else None
        for phase in ("reading images", "decoding images")
    )
    local = [file for file in files if isinstance(file, Path)]
    if len(local) == len(files):
        digests = image_digests(local, index, on_reading)
        return _decoded(files, digests, partial(caches.open, on_progress=on_decoding))
    remote = [file for file in files if isinstance(file, RemoteFile)]
    index.parent.mkdir(parents=True, exist_ok=True)
    folder = caches.folder.parent / _BUFFER_FOLDER / f"{index.stem}-{caches.image_px}"
    with FileLock(f"{index}.lock"), closing(DecodeBuffer(folder, caches)) as decode_buffer:
        digests = _remote_digests(remote, index, decode_buffer, on_reading)
        before = caches.finder()

        def known(digest: str) -> Decoded | None:
            found = decode_buffer.find(digest)
            return before(digest) if found is None else found

        cache = partial(caches.open, on_progress=on_decoding, known=known)
        read = _decoded(files, digests, cache)
        decode_buffer.remove()
    return read


def remembered_digests(files: Sequence[ImageFile], index: Path) -> list[str | None]:
    """Returns the digests of files in their current state; None if not known.

    Args:
        files: all from one folder; local files are read if needed.
        index: the file that stores digests.
    """
    local = [file for file in files if isinstance(file, Path)]
    if len(local) == len(files):
        return image_digests(local, index)
    remote = [file for file in files if isinstance(file, RemoteFile)]
    known = _known(remote, read_index(index))
    return [known.get(file) for file in remote]


def _remote_digests(
    files: Sequence[RemoteFile],
    index: Path,
    decode_buffer: DecodeBuffer,
    on_progress: Callable[[int, int], None] | None,
) -> list[str | None]:
    """Returns stored digests of files with unchanged state; reads and decodes the others."""
    remembered = read_index(index) | decode_buffer.files
    known = _known(files, remembered)
    to_read = [file for file in files if file not in known]
    if not to_read:
        return [known[file] for file in files]

    def read(positions: range) -> list[str | None]:
        return [_read(to_read[at], decode_buffer) for at in positions]

    # Twice, for the decode buffer and the cache built from it.
    check_free_space(index.parent, 2 * cache_bytes(len(to_read), decode_buffer.caches.image_px))
    done = 0
    threads = threads_for(files)
    for found in map_in_order(
        read,
        runs(len(to_read), _FILES_PER_TASK),
        threads=threads,
        ahead=4 * threads,
        stop=waiting_ender(files),
    ):
        known |= {
            file: digest
            for file, digest in zip(to_read[done : done + len(found)], found, strict=True)
            if digest is not None
        }
        done += len(found)
        if on_progress:
            on_progress(done, len(to_read))
    write_index(index, remembered | decode_buffer.files)
    return [known.get(file) for file in files]


def _known(files: Sequence[RemoteFile], remembered: Index) -> dict[RemoteFile, str]:
    return {
        file: entry[2]
        for file in files
        if file.entry.state
        and (entry := remembered.get(str(file)))
        and (entry[0], entry[1]) == _state(file)
    }


def _read(file: RemoteFile, decode_buffer: DecodeBuffer) -> str | None:
    """Returns a file's digest and adds its pixels to the decode buffer; None if it is missing.

    Raises:
        ImageError: it cannot be read. Skipping it would change the data of the search.
    """
    try:
        with reported(ImageError):
            content = read_image(file)
    except FileNotFoundError:
        return None
    digest = hashlib.sha256(content).hexdigest()
    image = decode_buffer.caches.decoded(content)
    decode_buffer.add(str(file), _state(file), digest, image)
    return digest


def _state(file: RemoteFile) -> State:
    return file.entry.size, file.entry.state


def _decoded(
    files: Sequence[ImageFile],
    digests: list[str | None],
    cache: Callable[[list[ImageFile], list[str]], DecodedImages],
) -> ReadImages:
    readable = {at: digest for at, digest in enumerate(digests) if digest is not None}
    positions = list(readable)
    images = cache([files[at] for at in positions], list(readable.values()))
    unusable = {at: ("unreadable", "") for at in range(len(files)) if at not in readable}
    unusable |= {positions[at]: (kind, detail) for at, kind, detail in images.damaged}
    usable = [at for at in positions if at not in unusable]
    kept = tuple(readable[at] for at in usable)
    return ReadImages(usable, kept, images.pixels, unusable, images.conversion)


def _decided(files: Sequence[ImageFile], conversion: Conversion, setting: str) -> Conversion:
    """Returns the conversion with a setting decided that was ``auto``, equal on every machine."""
    if setting == "background":
        return replace(conversion, background=WHITE)

    def values_of(at: int) -> NDArray[Any] | DamagedImageError | OSError:
        try:
            with reported(ImageError), opened(read_image(files[at])) as image:
                stored = image.stored_values(conversion.bands)
                return some_values(conversion.chosen(stored), stored.missing)
        except (OSError, DamagedImageError) as error:
            return error

    chosen = np.linspace(0, len(files) - 1, min(_SAMPLE, len(files))).astype(int).tolist()
    read = list(
        map_in_order(
            values_of,
            chosen,
            threads=threads_for(files),
            ahead=threads_for(files),
            stop=waiting_ender(files),
        )
    )
    samples = [values for values in read if not isinstance(values, Exception)]
    if not samples:
        raise ImageError(f"{files[0]}: {read[0]}, so data.range cannot be chosen")
    return replace(conversion, range=fitting_range(samples))
