"""Checkpoint files: bytes under a key, in a folder or a bucket, behind fsspec."""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from canopy_search.filestore.errors import FileStoreUnavailableError, FileStoreUrlError
from canopy_search.filestore.store import FileStore
from canopy_search.storage.errors import CheckpointPlaceError

SUFFIX = ".pt"
_MARKER = "canopy-checkpoints.json"
_PARTIAL = ".part"
_AWAY_S = 15.0
"""A place that did not answer is not asked again for as long as this: each attempt takes time, and
somebody who trains may wait for it."""


class CheckpointFiles:
    """The checkpoint files of one database in one place.

    Every call ends after some time, also where nobody answers.

    Args:
        url: a folder, or anything else that fsspec has a file system for.
        database: id of the database, whose files lie in a folder of their own.

    Raises:
        CheckpointPlaceError: there is no such file system, a package for it is missing, or the URL
            holds a secret.
    """

    def __init__(self, url: str, database: str) -> None:
        try:
            self._place = FileStore(url)
        except FileStoreUrlError as error:
            raise CheckpointPlaceError(f"stages.checkpoints: {error}") from error
        self.place = self._place.url
        self._folder = database[:13]
        self._uploads: dict[str, tuple[str, str]] = {}
        self._away: tuple[float, FileStoreUnavailableError] | None = None

    def read_marker(self) -> str | None:
        """Returns the id of this place; None where nobody has written there yet.

        Machines that share the files find the same id, however they come to the place.

        Raises:
            OSError: the place cannot be read.
        """
        with self._asking(), contextlib.suppress(FileNotFoundError):
            return str(json.loads(self._place.read(self._name(_MARKER)))["id"])
        return None

    def make_marker(self) -> str:
        """Gives this place an id, which lies beside the files, and returns it.

        Raises:
            OSError: the place cannot be written to.
        """
        place_id = str(uuid4())
        with self._asking():
            self._place.make_folder(self._folder)
            self._put(self._name(_MARKER), json.dumps({"id": place_id}).encode())
        return place_id

    def write(self, key: str, content: bytes) -> None:
        """Writes a file so that nobody sees a half of it.

        Raises:
            OSError: the place cannot be written to, or is full; nothing is left of the file.
        """
        with self._asking():
            self._put(self._name(f"{key}{SUFFIX}"), content)

    def read(self, key: str) -> bytes:
        """Returns the content of a file.

        Raises:
            FileNotFoundError: there is none.
            OSError: the place cannot be read.
        """
        with self._asking():
            return self._place.read(self._name(f"{key}{SUFFIX}"))

    def remove(self, key: str) -> None:
        """Removes a file, if it is there.

        Raises:
            OSError: it cannot be removed.
        """
        self.remove_name(f"{key}{SUFFIX}")

    def names(self) -> dict[str, int]:
        """Returns the files that are there with their sizes in bytes, halves included.

        Raises:
            OSError: the place cannot be read.
        """
        with self._asking():
            found = self._place.list_folder(self._folder)
            uploads = self._place.unfinished_uploads(self._folder)
        self._uploads = {f"{name}.{upload}{_PARTIAL}": (name, upload) for name, upload in uploads}
        sizes = {name: entry.size for name, entry in found.items() if name != _MARKER}
        return sizes | dict(zip(self._uploads, uploads.values(), strict=True))

    def remove_name(self, name: str) -> None:
        """Removes a file by the name that `names` gave, if it is there.

        Raises:
            OSError: it cannot be removed.
        """
        with self._asking():
            if name in self._uploads:
                file, upload = self._uploads[name]
                self._place.abort_upload(self._name(file), upload)
            else:
                self._place.remove(self._name(name))

    def free_bytes(self) -> int | None:
        """Returns the free space of a local disk; None elsewhere, where it is not known."""
        if not self._place.is_local:
            return None
        folder = Path(self._place.path(self._folder))
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def check(self) -> None:
        """Writes a small file and removes it again.

        Raises:
            OSError: the place cannot be written to.
        """
        name = f"canopy-check-{uuid4().hex[:8]}"
        self._place.make_folder()
        self._place.write(name, b"canopy doctor")
        self._place.remove(name)

    def close(self) -> None:
        """Closes connections; whoever reads or writes again opens new ones."""
        self._place.close()

    def _name(self, name: str) -> str:
        return f"{self._folder}/{name}" if self._folder else name

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Lets a place alone for a while that has just not answered."""
        if self._away is not None and time.monotonic() < self._away[0]:
            raise FileStoreUnavailableError(str(self._away[1]))
        try:
            yield
        except FileStoreUnavailableError as error:
            self._away = (time.monotonic() + _AWAY_S, error)
            raise
        self._away = None

    def _put(self, name: str, content: bytes) -> None:
        if not self._place.shows_halves:
            self._place.write(name, content)
            return
        beside = f"{name}.{uuid4().hex[:8]}{_PARTIAL}"
        try:
            self._place.write(beside, content)
            if self._place.is_local:
                # mv would move it into a folder of that name
                Path(self._place.path(beside)).replace(self._place.path(name))
            else:
                self._place.move(beside, name)
        except BaseException:
            with contextlib.suppress(Exception):
                self._place.remove(beside)
            raise


def digest_of(content: bytes) -> str:
    """Returns the digest that a checkpoint is verified by."""
    return hashlib.sha256(content).hexdigest()
