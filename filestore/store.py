"""Reads, writes and lists the files of one file store, with the same errors everywhere."""

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fsspec import get_filesystem_class
from fsspec.asyn import AsyncFileSystem
from fsspec.core import url_to_fs

from canopy_search.filestore import s3
from canopy_search.filestore.atomic import partial_name, replace_file
from canopy_search.filestore.errors import FileStoreUrlError
from canopy_search.filestore.messages import first_line
from canopy_search.filestore.translation import translated
from canopy_search.filestore.urls import check_url, is_url, joined, shown_url
from canopy_search.filestore.user_files import open_file

# File systems with folders, where a file can be seen while it is being written; elsewhere an object
# appears when it is complete.
_WITH_PARTIAL_FILES = frozenset({"file", "local", "sftp", "ssh", "smb", "ftp", "hdfs", "webhdfs"})

_LIST_S = 120.0
_FIRST_S = 60.0
_SLOWEST_BYTES_PER_S = 2**19
_CLOSE_S = 2.0

# Entries of a listing that identify the content of an object; file systems use different names.
_STATES = ("ETag", "etag", "md5Hash", "generation", "VersionId", "version_id", "checksum")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")


@dataclass(frozen=True)
class Entry:
    """A file in a listing.

    Attributes:
        size: in bytes.
        state: changes with the content; empty if the file store does not report any.
    """

    size: int
    state: str


class FileStore:
    """The files at a URL. Names are relative to it, with ``/`` between their parts.

    Connections are opened at the first use, and never shared with forked processes. Listings are
    never cached. Every call has a time limit, also if there is no answer.

    Args:
        url: a folder, or anything else that fsspec has a file system for.
        connections: number of concurrent calls, from as many threads.

    Attributes:
        url: without secrets.
        is_local: whether it is a folder on this machine.
        shows_partial_files: whether a file can be seen while it is being written.

    Raises:
        FileStoreUrlError: there is no such file system, a package for it is missing, or the URL
            contains a secret.
    """

    def __init__(self, url: str, *, connections: int = 10) -> None:
        check_url(url)
        self._url = url
        self._connections = connections
        self.url = shown_url(url)
        scheme = url.partition("://")[0].rpartition("::")[2] if is_url(url) else "file"
        try:
            protocol = get_filesystem_class(scheme).protocol
        except ImportError as error:
            raise FileStoreUrlError(f"{self.url}: {_missing_package(scheme, error)}") from error
        except ValueError as error:
            raise FileStoreUrlError(
                f"{self.url}: {first_line(error)}; write a folder, or a URL such as "
                "s3://bucket/folder"
            ) from error
        protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self.is_local = "file" in protocols
        self.shows_partial_files = bool(protocols & _WITH_PARTIAL_FILES)
        self._is_s3 = bool(protocols & s3.PROTOCOLS)
        self._lock = threading.Lock()
        self._opened: tuple[int, Any, str] | None = None

    def path(self, name: str = "") -> str:
        """Returns the path of a file inside its file system."""
        return joined(self._root(), name) if name else self._root()

    def read(self, name: str, *, size: int | None = None) -> bytes:
        """Returns the current content of a file.

        Args:
            name: of the file.
            size: in bytes, if known; large files get more time.

        Raises:
            FileNotFoundError: there is none.
            OSError: the file store cannot be read.
        """
        if self.is_local:
            return self._read_local(name)
        content: bytes = self._call(
            "cat_file", name, limit_s=_limit_s(2**29 if size is None else size)
        )
        return content

    def read_beginning(self, name: str, size: int) -> bytes:
        """Returns the first `size` bytes of a file, or all of a shorter one.

        Raises:
            OSError: as for `read`.
        """
        if self.is_local:
            return self._read_local(name, size)
        content: bytes = self._call("cat_file", name, limit_s=_limit_s(size), start=0, end=size)
        return content

    def write(self, name: str, content: bytes) -> None:
        """Writes a file atomically; its folder has to exist, where there are folders.

        Raises:
            OSError: it cannot be written; nothing is left of it.
        """
        if self.is_local:
            with translated(self.url):
                replace_file(Path(self.path(name)), content, is_durable=False)
        elif self.shows_partial_files:
            partial = partial_name(name)
            try:
                self._put(partial, content)
                self._call("mv", partial, self.path(name), limit_s=_FIRST_S)
            except BaseException:
                with suppress(Exception):
                    self.remove(partial)
                raise
        else:
            self._put(name, content)

    def make_folder(self, name: str = "") -> None:
        """Creates a folder, if the file system has folders; a bucket is never created.

        Raises:
            OSError: it cannot be created.
        """
        if self.shows_partial_files:
            self._call("makedirs", name, limit_s=_FIRST_S, exist_ok=True)

    def remove(self, name: str) -> None:
        """Removes a file, if it exists.

        Raises:
            OSError: it cannot be removed.
        """
        try:
            self._call("rm_file", name, limit_s=_FIRST_S)
        except FileNotFoundError:
            return

    def list_folder(self, folder: str = "") -> dict[str, Entry]:
        """Returns the files directly in a folder, by name.

        Raises:
            OSError: the file store cannot be listed. A missing folder counts as empty.
        """
        try:
            found = self._call("ls", folder, limit_s=_LIST_S, detail=True)
        except FileNotFoundError:
            return {}
        return self._entries(found, folder)

    def list_below(self, folder: str = "") -> dict[str, Entry]:
        """Returns the files in a folder and its subfolders, by relative path.

        Raises:
            OSError: as for `list_folder`.
        """
        try:
            found = self._call("find", folder, limit_s=_LIST_S, detail=True)
        except FileNotFoundError:
            return {}
        return self._entries(found.values(), folder)

    def unfinished_uploads(self, folder: str) -> dict[tuple[str, str], int]:
        """Returns unfinished multipart uploads below a folder.

        Their bytes cannot be read, and cost money.

        Returns:
            Relative path of the file, and id of the upload → bytes that have arrived; empty for a
            file store without multipart uploads.

        Raises:
            OSError: the file store cannot be read.
        """
        if not self._is_s3:
            return {}
        prefix = f"{self.path(folder)}/"
        with translated(self.url):
            found = s3.unfinished_uploads(self._files(), prefix, _LIST_S)
        return {(path.removeprefix(prefix), upload): size for (path, upload), size in found.items()}

    def abort_upload(self, name: str, upload: str) -> None:
        """Aborts a multipart upload, if it still exists.

        Raises:
            OSError: the file store cannot be written to.
        """
        try:
            with translated(self.url):
                s3.abort_upload(self._files(), self.path(name), upload, _FIRST_S)
        except FileNotFoundError:
            return

    def close(self) -> None:
        """Closes connections; later reads and writes open new ones."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None and opened[0] == os.getpid() and self._is_s3:
            s3.close(opened[1], _CLOSE_S)

    def _read_local(self, name: str, size: int = -1) -> bytes:
        with translated(self.url), open_file(Path(self.path(name))) as file:
            return file.read(size)

    def _put(self, name: str, content: bytes) -> None:
        options = s3.write_options() if self._is_s3 else {}
        try:
            self._call("pipe_file", name, content, limit_s=_limit_s(len(content)), **options)
        except BaseException:
            if self._is_s3 and s3.is_in_parts(len(content)):
                # Parts that have arrived stay and cost money. If this fails, too,
                # `unfinished_uploads` finds them.
                with suppress(Exception):
                    self._abort_uploads(name)
            raise

    def _abort_uploads(self, name: str) -> None:
        for path, upload in s3.unfinished_uploads(self._files(), self.path(name), _FIRST_S):
            if path == self.path(name):
                self.abort_upload(name, upload)

    def _entries(self, found: Any, folder: str) -> dict[str, Entry]:
        prefix = f"{self.path(folder).rstrip('/')}/"
        entries = {}
        for info in found:
            # A folder can have an object of its own, whose name ends with a slash.
            name = info["name"].removeprefix(prefix)
            if info["type"] == "file" and name and not name.endswith("/"):
                entries[name] = Entry(int(info["size"] or 0), _state(info))
        return entries

    def _call(self, method: str, name: str, *arguments: Any, limit_s: float, **options: Any) -> Any:
        with translated(self.url):
            files = self._files()
            if isinstance(files, AsyncFileSystem):
                options["timeout"] = limit_s
            files.invalidate_cache()
            return getattr(files, method)(self.path(name), *arguments, **options)

    def _files(self) -> Any:
        return self._open()[1]

    def _root(self) -> str:
        return self._open()[2]

    def _open(self) -> tuple[int, Any, str]:
        # A client's thread does not exist in a process that was forked from this one.
        pid = os.getpid()
        with self._lock:
            if self._opened is None or self._opened[0] != pid:
                options = s3.options(self._connections) if self._is_s3 else {}
                with translated(self.url):
                    files, root = url_to_fs(self._url, skip_instance_cache=True, **options)
                if self._is_s3:
                    s3.try_once(files)
                self._opened = (pid, files, root.rstrip("/") or root)
            return self._opened


def _state(entry: Mapping[str, Any]) -> str:
    known = [entry[name] for name in _STATES if entry.get(name)][:1]
    known += [entry[name] for name in _TIMES if entry.get(name)][:1]
    return " ".join(
        value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)
        for value in known
    )


def _limit_s(size: int) -> float:
    """Returns the time limit of a call that transfers `size` bytes."""
    return _FIRST_S + size / _SLOWEST_BYTES_PER_S


def _missing_package(scheme: str, error: ImportError) -> str:
    if scheme in s3.PROTOCOLS:
        return f"a bucket needs the package s3fs; pip install '{s3.EXTRA}'"
    return f"{first_line(error)}; install the package that this kind of URL needs"
