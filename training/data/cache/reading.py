"""From image files to their digests and their decoded pixels, reading as little as can be."""

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
"""Called with what is being done, how much of it is done, and how much there is."""

_FILES_PER_TASK = 4
_SPOOL_FOLDER = "spool"


@dataclass(frozen=True, eq=False)
class ReadImages:
    """What was found out about image files.

    Attributes:
        digests: SHA-256 of each, hexadecimal; None for one that cannot be read.
        readable: the positions of the others.
        decoded: these others, decoded; positions of damaged ones count among them.
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

    A file that is as it was is not read for its digest, and images that are decoded already are
    not decoded again. Files of a folder are read for the one and, some time later, for the other,
    which the disk's own cache makes cheap. A file of another place is read once for both; as many
    processes as there are on a machine do that one after the other, and find it done.

    Args:
        files: all from one folder.
        index: the file that remembers digests.
        caches: the folder of caches of decoded images.
        image_px: side of the squares.
        progress: is told ``reading images`` and ``decoding images``.

    Raises:
        ImageError: an image changes meanwhile, or the place cannot be read.
        DiskFullError: the disk has no room.
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
    folder = caches.parent / _SPOOL_FOLDER / f"{index.stem}-{image_px}"
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
    """Returns the digests of files as they are now; None for those that are not known.

    Args:
        files: all from one folder; those of a folder of this machine are read if need be.
        index: the file that remembers digests.
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
    """Digests from memory where the state of a file is the same; else reads and decodes it."""
    remembered = read_index(index) | decode_buffer.files
    known = _known(files, remembered)
    to_read = [file for file in files if file not in known]
    if not to_read:
        return [known[file] for file in files]

    def read(positions: range) -> list[str | None]:
        return [_read(to_read[at], decode_buffer, image_px) for at in positions]

    # Beside the cache that is made of them.
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
    """Digest of a file, whose pixels go to the spool; None if it is not there any more.

    Raises:
        ImageError: it cannot be read. To leave it out would be to search with other data.
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
