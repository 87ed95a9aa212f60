"""The decode buffer: images decoded while they are read, until the cache is built from them.

A remote file is read once, for both digest and pixels. The name of a cache depends on all digests,
so the pixels are buffered until all are known. The buffer survives the end of the process, so no
file is read twice.
"""

import errno
import json
import os
import shutil
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from canopy_search.training.data.cache.pixels import Decoded, cache_bytes
from canopy_search.training.data.images.decoding import DECODING_RULE
from canopy_search.training.data.images.digests import Index, State
from canopy_search.training.errors import DiskFullError

_PIXELS = "pixels.bin"
_JOURNAL = "journal"


class DecodeBuffer:
    """Decoded images by digest, on disk. For one process at a time, with any number of threads.

    Args:
        folder: for its files; it may be missing.
        image_px: side of the squares.

    Attributes:
        files: file → its size, state and digest, for all files read so far.
    """

    def __init__(self, folder: Path, image_px: int) -> None:
        self._folder = folder
        self._shape = (image_px, image_px, 3)
        self._bytes = cache_bytes(1, image_px)
        self._rule = f"{DECODING_RULE} {image_px}"
        self._squares: dict[str, tuple[int, int]] = {}
        self._damaged: dict[str, tuple[str, str]] = {}
        self._pixels: FileIO | None = None
        self._journal: FileIO | None = None
        self._lock = threading.Lock()
        self.files: Index = {}
        if folder.is_dir():
            self._restore()

    def add(self, file: str, state: State, digest: str, decoded: Decoded) -> None:
        """Adds an image.

        Args:
            file: its name in the index of digests.
            state: its state in the index of digests.
            digest: SHA-256 of its bytes, hexadecimal.
            decoded: its pixels, or why it cannot be decoded.

        Raises:
            DiskFullError: the disk is full.
        """
        with self._lock, self._reporting_full_disks():
            pixels, journal = self._opened()
            crc, damage = None, None
            if isinstance(decoded, tuple):
                damage = self._damaged[digest] = decoded
            elif digest not in self._squares:
                crc = zlib.crc32(decoded.data)
                _write_all(pixels, decoded.tobytes())
                self._squares[digest] = (len(self._squares), crc)
            entry = [file, *state, digest, crc, damage]
            _write_all(journal, json.dumps(entry, separators=(",", ":")).encode() + b"\n")
            self.files[file] = (*state, digest)

    def find(self, digest: str) -> Decoded | None:
        """Returns a buffered image; None if it is missing or its checksum differs."""
        if digest in self._damaged:
            return self._damaged[digest]
        if digest not in self._squares or self._pixels is None:
            return None
        position, crc = self._squares[digest]
        content = os.pread(self._pixels.fileno(), self._bytes, position * self._bytes)
        if len(content) < self._bytes or zlib.crc32(content) != crc:
            return None
        square: NDArray[np.uint8] = np.frombuffer(content, np.uint8).reshape(self._shape)
        return square

    def close(self) -> None:
        """Closes the files and keeps them for the next process."""
        for file in (self._pixels, self._journal):
            if file is not None:
                file.close()
        self._pixels = self._journal = None

    def remove(self) -> None:
        """Removes the files."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _opened(self) -> tuple[FileIO, FileIO]:
        if self._pixels is None or self._journal is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._pixels = FileIO(self._folder / _PIXELS, "a+")
            self._journal = FileIO(self._folder / _JOURNAL, "a+")
            if not self._squares and not self.files:
                self._journal.truncate(0)
                self._pixels.truncate(0)
                _write_all(self._journal, json.dumps([self._rule]).encode() + b"\n")
        return self._pixels, self._journal

    def _restore(self) -> None:
        """Reads the files of an earlier process, up to where it was interrupted."""
        try:
            lines = (self._folder / _JOURNAL).read_bytes().split(b"\n")[:-1]
            if not lines or json.loads(lines[0]) != [self._rule]:
                return
            for line in lines[1:]:
                file, size, state, digest, crc, damage = json.loads(line)
                if damage is not None:
                    self._damaged[digest] = (damage[0], damage[1])
                elif crc is not None:
                    self._squares[digest] = (len(self._squares), crc)
                self.files[file] = (size, state, digest)
        except (OSError, ValueError, TypeError):
            self._squares, self._damaged, self.files = {}, {}, {}
            return
        if self.files:
            pixels, journal = self._opened()
            # Remove a partial write at the end.
            journal.truncate(sum(len(line) + 1 for line in lines))
            pixels.truncate(len(self._squares) * self._bytes)

    @contextmanager
    def _reporting_full_disks(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise DiskFullError(
                f"{self._folder}: the disk has no room for more decoded images; make room, lower "
                "data.image_px, or set CANOPY_HOME to a folder on a larger disk"
            ) from error


def _write_all(file: FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
