"""The decode buffer: images decoded while they are read, until the cache is built from them.

A remote file is read once, for both digest and pixels. The name of a cache depends on all digests,
so the pixels are buffered until all are known. The buffer survives the end of the process, so no
file is read twice.
"""

import hashlib
import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from canopy_search.training.data.cache.pixels import Decoded, PixelCaches
from canopy_search.training.data.images.digests import Index, State
from canopy_search.training.errors import DiskFullError

# One process uses the file, so it needs no shared memory, which some network disks lack.
_TABLES = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS images (digest TEXT PRIMARY KEY, pixels BLOB, kind TEXT, detail TEXT);
CREATE TABLE IF NOT EXISTS files (file TEXT PRIMARY KEY, size INTEGER, state, digest TEXT);
"""


class DecodeBuffer:
    """Decoded images by digest, on disk. For one process at a time, with any number of threads.

    Args:
        folder: for its file; it may be missing.
        caches: the caches that are built from it.

    Attributes:
        caches: likewise.
        files: file → its size, state and digest, for all files read so far.

    Raises:
        DiskFullError: the file cannot be made, usually because the disk is full.
    """

    def __init__(self, folder: Path, caches: PixelCaches) -> None:
        self._folder = folder
        self.caches = caches
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        rule = hashlib.sha256(json.dumps(caches.rule).encode()).hexdigest()[:16]
        with self._reporting_full_disks():
            try:
                self._open(folder / f"{rule}.sqlite")
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # damaged, so its images are read again
                self.remove()
                folder.mkdir(parents=True)
                self._open(folder / f"{rule}.sqlite")

    def add(self, file: str, state: State, digest: str, decoded: Decoded) -> None:
        """Adds an image.

        Args:
            file: its name in the index of digests.
            state: its state in the index of digests.
            digest: SHA-256 of its bytes, hexadecimal.
            decoded: its pixels, or why it cannot be decoded.

        Raises:
            DiskFullError: it cannot be stored, usually because the disk is full.
        """
        image = (None, *decoded) if isinstance(decoded, tuple) else (decoded.tobytes(), None, None)
        with self._reporting_full_disks(), self._lock, self._database as database:
            database.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?, ?)", (digest, *image))
            database.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (file, *state, digest)
            )
        self.files[file] = (*state, digest)

    def find(self, digest: str) -> Decoded | None:
        """Returns a buffered image; None if it is missing."""
        query = "SELECT pixels, kind, detail FROM images WHERE digest = ?"
        with self._lock:
            found = self._database.execute(query, (digest,)).fetchone()
        if found is None:
            return None
        pixels, kind, detail = found
        if pixels is None:
            return kind, detail
        image_px = self.caches.image_px
        return np.frombuffer(pixels, np.uint8).reshape(image_px, image_px, 3)

    def close(self) -> None:
        """Closes the file and keeps it for the next process."""
        self._database.close()

    def remove(self) -> None:
        """Removes the file."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _open(self, file: Path) -> None:
        self._database = sqlite3.connect(file, check_same_thread=False)
        self._database.executescript(_TABLES)
        rows = self._database.execute("SELECT file, size, state, digest FROM files")
        self.files: Index = {file: (size, state, digest) for file, size, state, digest in rows}

    @contextmanager
    def _reporting_full_disks(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise DiskFullError(
                f"{self._folder}: decoded images cannot be stored: {error}; make room, lower "
                "data.image_px, or set CANOPY_HOME to a folder on a larger disk"
            ) from error
