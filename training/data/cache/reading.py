"""Reads digests and decoded pixels of image files, reading as few bytes as possible."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock

from canopy_search.training.data.cache.decode_buffer import DecodeBuffer
from canopy_search.training.data.cache.pixels import (
    Decoded,
    DecodedImages,
    cache_bytes,
    cached_before,
    check_free_space,
    decoded,
    open_cache,
)
from canopy_search.training.data.files.parallel import map_in_order, runs
from canopy_search.training.data.files.sources import (
    ImageFile,
    RemoteFile,
    reported,
    threads_for,
    waiting_ender,
)
from canopy_search.training.data.images.digests import (
    Index,
    State,
    image_digests,
    read_index,
    write_index,
)
from canopy_search.training.errors import ImageError

Progress = Callable[[str, int, int], None]
"""Called with the name of the phase, the amount done, and the total."""

_FILES_PER_TASK = 4
_BUFFER_FOLDER = "spool"


@dataclass(frozen=True, eq=False)
class ReadImages:
    """Digests and pixels of image files.

    Attributes:
        digests: SHA-256 of each file, hexadecimal; None if it cannot be read.
        readable: the positions of the readable files.
        decoded: the readable files, decoded; positions of damaged ones are indices of `readable`.
    """

    digests: list[str | None]
    readable: list[int]
    decoded: DecodedImages


def read_images(
    files: Sequence[ImageFile],
    index: Path,
    caches: Path,
    image_px: int,
    progress: Progress | None = None,
) -> ReadImages:
    """Returns digests and pixels of images.

    Unchanged files are not read for their digests, and cached images are not decoded again. Local
    files are read twice, for the digest and for the pixels, which the page cache makes cheap.
    Remote files are read once for both; a lock lets one process per machine do this at a time, and
    the next ones find the result.

    Args:
        files: all from one folder.
        index: the file that stores digests.
        caches: the folder of caches of decoded images.
        image_px: side of the squares.
        progress: called in the phases ``reading images`` and ``decoding images``.

    Raises:
        ImageError: an image changes meanwhile, or the object storage cannot be read.
        DiskFullError: the disk has too little free space.
    """
    on_reading, on_decoding = (
        partial(progress, phase) if progress else None
        for phase in ("reading images", "decoding images")
    )
    local = [file for file in files if isinstance(file, Path)]
    if len(local) == len(files):
        digests = image_digests(local, index, on_reading)
        cache = partial(open_cache, caches, image_px=image_px, on_progress=on_decoding)
        return _decoded(files, digests, cache)
    remote = [file for file in files if isinstance(file, RemoteFile)]
    index.parent.mkdir(parents=True, exist_ok=True)
    folder = caches.parent / _BUFFER_FOLDER / f"{index.stem}-{image_px}"
    with FileLock(f"{index}.lock"), closing(DecodeBuffer(folder, image_px)) as decode_buffer:
        digests = _remote_digests(remote, index, decode_buffer, image_px, on_reading)
        before = cached_before(caches, image_px)

        def known(digest: str) -> Decoded | None:
            found = decode_buffer.find(digest)
            return before(digest) if found is None else found

        cache = partial(open_cache, caches, image_px=image_px, on_progress=on_decoding, known=known)
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
    image_px: int,
    on_progress: Callable[[int, int], None] | None,
) -> list[str | None]:
    """Returns stored digests of files with unchanged state; reads and decodes the others."""
    remembered = read_index(index) | decode_buffer.files
    known = _known(files, remembered)
    to_read = [file for file in files if file not in known]
    if not to_read:
        return [known[file] for file in files]

    def read(positions: range) -> list[str | None]:
        return [_read(to_read[at], decode_buffer, image_px) for at in positions]

    # Twice, for the decode buffer and the cache built from it.
    check_free_space(index.parent, 2 * cache_bytes(len(to_read), image_px))
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


def _read(file: RemoteFile, decode_buffer: DecodeBuffer, image_px: int) -> str | None:
    """Returns a file's digest and adds its pixels to the decode buffer; None if it is missing.

    Raises:
        ImageError: it cannot be read. Skipping it would change the data of the search.
    """
    try:
        with reported(ImageError):
            content = file.read_bytes()
    except FileNotFoundError:
        return None
    digest = hashlib.sha256(content).hexdigest()
    decode_buffer.add(str(file), _state(file), digest, decoded(content, image_px, str(file)))
    return digest


def _state(file: RemoteFile) -> State:
    return file.entry.size, file.entry.state


def _decoded(
    files: Sequence[ImageFile],
    digests: list[str | None],
    cache: Callable[[list[ImageFile], list[str]], DecodedImages],
) -> ReadImages:
    readable = [at for at, digest in enumerate(digests) if digest is not None]
    known = [digest for digest in digests if digest is not None]
    return ReadImages(digests, readable, cache([files[at] for at in readable], known))
