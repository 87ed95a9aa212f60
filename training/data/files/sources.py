"""Sources of images and label files: local folders or remote ones in a file store."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from canopy_search.filestore.errors import FileStoreError
from canopy_search.filestore.retry import FILE_STORE, Retrier, RetryPolicy
from canopy_search.filestore.store import Entry, FileStore
from canopy_search.filestore.urls import Source, joined, shown_url
from canopy_search.filestore.user_files import read_file
from canopy_search.training.data.files.parallel import usable_cores
from canopy_search.training.errors import ImageError, TrainingError, shown

READING_THREADS = 32
"""Objects that are read at the same time, because each request has latency."""
MOST_LABEL_BYTES = 2 * 2**30
"""Largest label file that is read: its rows need many times as much memory."""
MOST_IMAGE_BYTES = 2**30
"""Largest image file that is read."""
RETRY_POLICY = RetryPolicy(limit_s=300.0)
"""How long to wait for an unavailable file store."""


@dataclass(frozen=True)
class RemoteFile:
    """A file in a remote folder.

    Attributes:
        folder: the folder that contains it, at any depth.
        path: relative to that folder.
        entry: its size and state when it was listed.
    """

    folder: "RemoteFolder" = field(compare=False, repr=False)
    path: str
    entry: Entry

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The extension of its name, with the dot."""
        return PurePosixPath(self.name).suffix

    def read_bytes(self) -> bytes:
        """Returns the current content; waits while the file store is unavailable.

        Raises:
            FileNotFoundError: it no longer exists.
            OSError: it cannot be read.
        """
        return self.folder.read(self.path, self.entry.size)

    def read_beginning(self, size: int) -> bytes:
        """Returns the first `size` bytes; waits like `read_bytes`.

        Raises:
            OSError: it cannot be read.
        """
        return self.folder.read_beginning(self.path, size)

    def __str__(self) -> str:
        """Returns the URL."""
        return joined(self.folder.url, self.path)


ImageFile = Path | RemoteFile


def read_image(file: ImageFile) -> bytes:
    """Returns the content of an image file; waits while its file store is unavailable.

    Raises:
        FileNotFoundError: it no longer exists.
        OSError: it cannot be read, or is no regular file.
    """
    if isinstance(file, RemoteFile):
        return file.read_bytes()
    return read_file(file, MOST_IMAGE_BYTES)


class RemoteFolder:
    """A remote folder and everything below it.

    Args:
        url: of the folder.
        retrier: how long to wait for an unavailable file store.

    Attributes:
        url: without secrets, for display.

    Raises:
        FileStoreUrlError: see `filestore.store.FileStore`.
    """

    def __init__(self, url: str, retrier: Retrier) -> None:
        self._store = FileStore(url, connections=READING_THREADS)
        self._retrier = retrier
        self.url = self._store.url

    def files_in(self, folder: str) -> list[RemoteFile]:
        """Returns the files directly in a folder below this one; "" is this folder.

        Raises:
            ImageError: the folder cannot be listed.
        """
        with reported(ImageError):
            found = self._retrier.call(lambda: self._store.list_folder(folder))
        inside = f"{folder}/" if folder else ""
        return [RemoteFile(self, inside + name, entry) for name, entry in found.items()]

    def files_below(self) -> list[RemoteFile]:
        """Returns all files in this folder and below.

        Raises:
            ImageError: the folder cannot be listed.
        """
        with reported(ImageError):
            found = self._retrier.call(self._store.list_below)
        return [RemoteFile(self, path, entry) for path, entry in found.items()]

    def read(self, path: str, size: int) -> bytes:
        """See `RemoteFile.read_bytes`."""
        return self._retrier.call(lambda: self._store.read(path, size=size))

    def read_beginning(self, path: str, size: int) -> bytes:
        """See `RemoteFile.read_beginning`."""
        return self._retrier.call(lambda: self._store.read_beginning(path, size))

    def end_waiting(self) -> None:
        """Makes all threads that wait for the file store give up."""
        self._retrier.end()

    def close(self) -> None:
        """Closes connections."""
        self._store.close()


Images = Path | RemoteFolder


@contextmanager
def opened_images(source: Source, retrier: Retrier | None = None) -> Iterator[Images]:
    """Opens a folder of images.

    Args:
        source: a path, or the URL of a remote folder.
        retrier: how long to wait for an unavailable file store; by default some minutes.

    Raises:
        ImageError: the URL cannot be used.
    """
    if isinstance(source, Path):
        yield source
        return
    with reported(ImageError):
        folder = RemoteFolder(source, retrier or Retrier(RETRY_POLICY, FILE_STORE))
    try:
        yield folder
    finally:
        folder.end_waiting()
        folder.close()


def read_source(
    source: Source, retrier: Retrier | None = None, most_bytes: int = MOST_LABEL_BYTES
) -> bytes:
    """Returns the content of a file.

    Args:
        source: its path or URL.
        retrier: see `opened_images`.
        most_bytes: size of the largest file that is read from this machine.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
    """
    if isinstance(source, Path):
        return read_file(source, most_bytes)
    url, _, name = source.rpartition("/")
    store = FileStore(url, connections=1)
    try:
        return (retrier or Retrier(RETRY_POLICY, FILE_STORE)).call(lambda: store.read(name))
    finally:
        store.close()


def shown_source(source: Source) -> str:
    """Returns a path or URL without secrets, for display."""
    return str(source) if isinstance(source, Path) else shown_url(source)


def broken_link_text(link: Path) -> str:
    """Returns that a symbolic link points to nothing, as before ``git annex get``."""
    return (
        f"{link} points to {shown(str(link.readlink()))}, which does not exist; fetch its content, "
        "for example with git annex get or dvc pull"
    )


def threads_for(files: Sequence[ImageFile]) -> int:
    """Returns the number of reading threads: one per core for local files, more for remote ones."""
    return READING_THREADS if isinstance(next(iter(files), None), RemoteFile) else usable_cores()


def waiting_ender(files: Sequence[ImageFile]) -> Callable[[], None]:
    """Returns a function that makes threads waiting for these files' store give up."""
    first = next(iter(files), None)
    return first.folder.end_waiting if isinstance(first, RemoteFile) else lambda: None


@contextmanager
def reported(kind: type[TrainingError]) -> Iterator[None]:
    """Converts errors of a file store to a `TrainingError`, which commands and workers show.

    Args:
        kind: class of the error.

    Raises:
        TrainingError: of that class.
    """
    try:
        yield
    except FileStoreError as error:
        raise kind(str(error)) from error
