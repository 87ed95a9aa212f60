"""Checkpoint files: bytes by key, in a folder or a bucket, through fsspec."""

import contextlib
import errno
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

from canopy_search.filestore.atomic import PARTIAL
from canopy_search.filestore.errors import FileStoreUnavailableError, FileStoreUrlError
from canopy_search.filestore.store import FileStore
from canopy_search.storage.errors import CheckpointPlaceError

SUFFIX = ".pt"
_MARKER = "canopy-checkpoints.json"
_RETRY_AFTER_S = 15.0
"""After a call without an answer, no other call is made for this long: each one takes time, and
training may wait for it."""


class CheckpointFiles:
    """The checkpoint files of one database at one location.

    Every call has a time limit, also if there is no answer.

    Args:
        url: a folder, or anything else that fsspec has a file system for.
        database: id of the database, whose files are in a folder of their own.

    Raises:
        CheckpointPlaceError: there is no such file system, a package for it is missing, or the URL
            contains a secret.
    """

    def __init__(self, url: str, database: str) -> None:
        try:
            self._place = FileStore(url)
        except FileStoreUrlError as error:
            raise CheckpointPlaceError(f"stages.checkpoints: {error}") from error
        self.place = self._place.url
        self._folder = database[:13]
        self._uploads: dict[str, tuple[str, str]] = {}
        self._unavailable: tuple[float, FileStoreUnavailableError] | None = None

    def read_marker(self) -> str | None:
        """Returns the id of this location; None if nothing was written there yet.

        Machines that share the files find the same id, whatever path or URL they use.

        Raises:
            OSError: the location cannot be read, or the file with its id is damaged.
        """
        with self._guarded(), contextlib.suppress(FileNotFoundError):
            return self._marker(self._name(_MARKER))
        return None

    def make_marker(self) -> str:
        """Gives this location an id, which is stored next to the files, and returns it.

        Raises:
            OSError: the location cannot be written to.
        """
        place_id = str(uuid4())
        with self._guarded():
            self._place.make_folder(self._folder)
            self._place.write(self._name(_MARKER), json.dumps({"id": place_id}).encode())
        return place_id

    def write(self, key: str, content: bytes) -> None:
        """Writes a file atomically.

        Raises:
            OSError: the location cannot be written to, or is full; nothing is left of the file.
        """
        with self._guarded():
            self._place.write(self._name(f"{key}{SUFFIX}"), content)

    def read(self, key: str) -> bytes:
        """Returns the content of a file.

        Raises:
            FileNotFoundError: there is none.
            OSError: the location cannot be read.
        """
        with self._guarded():
            return self._place.read(self._name(f"{key}{SUFFIX}"))

    def remove(self, key: str) -> None:
        """Removes a file, if it exists.

        Raises:
            OSError: it cannot be removed.
        """
        self.remove_name(f"{key}{SUFFIX}")

    def names(self) -> dict[str, int]:
        """Returns all files with their sizes in bytes, incomplete ones included.

        Raises:
            OSError: the location cannot be read.
        """
        with self._guarded():
            found = self._place.list_folder(self._folder)
            uploads = self._place.unfinished_uploads(self._folder)
        self._uploads = {f"{name}.{upload}{PARTIAL}": (name, upload) for name, upload in uploads}
        sizes = {name: entry.size for name, entry in found.items() if name != _MARKER}
        return sizes | dict(zip(self._uploads, uploads.values(), strict=True))

    def remove_name(self, name: str) -> None:
        """Removes a file by its name from `names`, if it exists.

        Raises:
            OSError: it cannot be removed.
        """
        with self._guarded():
            if name in self._uploads:
                file, upload = self._uploads[name]
                self._place.abort_upload(self._name(file), upload)
            else:
                self._place.remove(self._name(name))

    def free_bytes(self) -> int | None:
        """Returns the free space of a local disk; None for other locations."""
        if not self._place.is_local:
            return None
        folder = Path(self._place.path(self._folder))
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def check(self) -> None:
        """Reads the ids of this location, writes a small file and removes it again.

        Raises:
            OSError: the location cannot be written to, or a file with an id is damaged.
        """
        name = f"canopy-check-{uuid4().hex[:8]}"
        self._place.make_folder()
        self._place.write(name, b"canopy doctor")
        self._place.remove(name)
        for path in self._place.list_below():
            if path.rpartition("/")[2] == _MARKER:
                self._marker(path)

    def close(self) -> None:
        """Closes connections; later reads and writes open new ones."""
        self._place.close()

    def _marker(self, name: str) -> str:
        """Returns the id in a marker file."""
        content = self._place.read(name)
        try:
            return str(UUID(json.loads(content)["id"]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise OSError(
                errno.EINVAL,
                "not the id of a location of checkpoints; remove this file, and checkpoints are "
                "kept again",
                f"{self.place}/{name}",
            ) from None

    def _name(self, name: str) -> str:
        return f"{self._folder}/{name}" if self._folder else name

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Fails at once for a while after a call without an answer."""
        if self._unavailable is not None and time.monotonic() < self._unavailable[0]:
            raise FileStoreUnavailableError(str(self._unavailable[1]))
        try:
            yield
        except FileStoreUnavailableError as error:
            self._unavailable = (time.monotonic() + _RETRY_AFTER_S, error)
            raise
        self._unavailable = None


def digest_of(content: bytes) -> str:
    """Returns the digest that verifies a checkpoint."""
    return hashlib.sha256(content).hexdigest()
