"""Checkpoint files: bytes under a key, in a folder or a bucket, behind fsspec."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from fsspec.core import url_to_fs

from storage.errors import CheckpointPlaceError

SUFFIX = ".pt"
_MARKER = "canopy-checkpoints.json"
_PARTIAL = ".part"
# Where a file that is being written can be seen; elsewhere an object appears when it is complete.
_WITH_HALF_FILES = frozenset({"file", "local", "sftp", "ssh", "smb", "ftp", "hdfs", "webhdfs"})


class CheckpointFiles:
    """The checkpoint files of one database in one place.

    Args:
        url: a folder, or anything else that fsspec has a file system for.
        database: id of the database, whose files lie in a folder of their own.

    Raises:
        CheckpointPlaceError: there is no such file system, a package for it is missing, or it
            answers nothing.
    """

    def __init__(self, url: str, database: str) -> None:
        try:
            self._files, root = url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise CheckpointPlaceError(
                f"stages.checkpoints: {shown_place(url)}: {str(error).splitlines()[0]}; write a "
                "folder, or install what this kind of place needs"
            ) from error
        self.place = shown_place(url)
        self._folder = f"{root.rstrip('/')}/{database[:13]}"
        protocol = self._files.protocol
        protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._writes_beside = bool(protocols & _WITH_HALF_FILES)
        self._is_local = "file" in protocols

    def open_marker(self) -> str:
        """Returns the id of this place, which is made at the first time and lies beside the files.

        Machines that share the files find the same id, however they come to the place.

        Raises:
            OSError: the place cannot be written to.
        """
        marker = f"{self._folder}/{_MARKER}"
        place_id = str(uuid4())
        with _only_os_errors():
            with contextlib.suppress(FileNotFoundError):
                return str(json.loads(self._files.cat_file(marker))["id"])
            self._files.makedirs(self._folder, exist_ok=True)
            self._put(marker, json.dumps({"id": place_id}).encode())
        return place_id

    def write(self, key: str, content: bytes) -> None:
        """Writes a file so that nobody sees a half of it.

        Raises:
            OSError: the place cannot be written to, or is full; nothing is left of the file.
        """
        with _only_os_errors():
            self._put(self._path(key), content)

    def read(self, key: str) -> bytes:
        """Returns the content of a file.

        Raises:
            FileNotFoundError: there is none.
            OSError: the place cannot be read.
        """
        with _only_os_errors():
            content: bytes = self._files.cat_file(self._path(key))
        return content

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
        found = []
        with _only_os_errors(), contextlib.suppress(FileNotFoundError):
            found = self._files.ls(self._folder, detail=True, refresh=True)
        sizes = {
            entry["name"].rpartition("/")[2]: int(entry["size"] or 0)
            for entry in found
            if entry["type"] == "file"
        }
        return {name: size for name, size in sizes.items() if name != _MARKER}

    def remove_name(self, name: str) -> None:
        """Removes a file by the name that `names` gave, if it is there.

        Raises:
            OSError: it cannot be removed.
        """
        with _only_os_errors(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(f"{self._folder}/{name}")

    def free_bytes(self) -> int | None:
        """Returns the free space of a local disk; None elsewhere, where it is not known."""
        if not self._is_local:
            return None
        folder = Path(self._folder)
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def _path(self, key: str) -> str:
        return f"{self._folder}/{key}{SUFFIX}"

    def _put(self, path: str, content: bytes) -> None:
        if not self._writes_beside:
            self._files.pipe_file(path, content)
            return
        beside = f"{path}.{uuid4().hex[:8]}{_PARTIAL}"
        try:
            self._files.pipe_file(beside, content)
            if self._is_local:
                Path(beside).replace(path)  # mv would move it into a folder of that name
            else:
                self._files.mv(beside, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self._files.rm_file(beside)
            raise


def digest_of(content: bytes) -> str:
    """Returns the digest that a checkpoint is verified by."""
    return hashlib.sha256(content).hexdigest()


def shown_place(url: str) -> str:
    """Returns where checkpoints lie as people may see it: without a password."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if not separator or "@" not in authority:
        return url
    user, _, host = authority.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}@{host}{slash}{path}"


@contextlib.contextmanager
def _only_os_errors() -> Iterator[None]:
    """Clients of buckets have errors of their own; for us each means that it did not work."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
