"""Where images and label files are read from: folders of this machine, or any other place."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from canopy_search.filestore.errors import FileStoreError
from canopy_search.filestore.store import Entry, FileStore
from canopy_search.filestore.urls import Source, joined, shown_url
from canopy_search.filestore.waiting import Waiting
from canopy_search.training.data.files.parallel import usable_cores
from canopy_search.training.errors import ImageError, TrainingError

READING_THREADS = 32
"""Objects that are read at the same time: an answer takes a while, however small the object is."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that is not on this machine.

    Attributes:
        folder: that it lies in or below.
        path: from there.
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
        """Returns the content, as it is now; waits while the place is away.

        Raises:
            FileNotFoundError: it is not there any more.
            OSError: it cannot be read.
        """
        return self.folder.read(self.path, self.entry.size)

    def read_beginning(self, size: int) -> bytes:
        """Returns the first `size` bytes, as `read_bytes` returns all.

        Raises:
            OSError: likewise.
        """
        return self.folder.read_beginning(self.path, size)

    def __str__(self) -> str:
        """Returns the URL."""
        return joined(self.folder.url, self.path)


ImageFile = Path | RemoteFile


class RemoteFolder:
    """A folder that is not on this machine, and what lies below it.

    Args:
        url: of the folder.
        waiting: for a place that is away.

    Attributes:
        url: as people may see it.

    Raises:
        FileStoreUrlError: see `filestore.store.FileStore`.
    """

    def __init__(self, url: str, waiting: Waiting) -> None:
        self._place = FileStore(url, connections=READING_THREADS)
        self._waiting = waiting
        self.url = self._place.url

    def files_in(self, folder: str) -> list[RemoteFile]:
        """Returns the files that lie directly in a folder below this one; "" is this one.

        Raises:
            ImageError: the place cannot be listed.
        """
        with reported(ImageError):
            found = self._waiting.call(lambda: self._place.list_folder(folder))
        inside = f"{folder}/" if folder else ""
        return [RemoteFile(self, inside + name, each) for name, each in found.items()]

    def files_below(self) -> list[RemoteFile]:
        """Returns all files in this folder and below.

        Raises:
            ImageError: the place cannot be listed.
        """
        with reported(ImageError):
            found = self._waiting.call(self._place.list_below)
        return [RemoteFile(self, path, each) for path, each in found.items()]

    def read(self, path: str, size: int) -> bytes:
        """See `RemoteFile.read_bytes`."""
        return self._waiting.call(lambda: self._place.read(path, size=size))

    def read_beginning(self, path: str, size: int) -> bytes:
        """See `RemoteFile.read_beginning`."""
        return self._waiting.call(lambda: self._place.read_beginning(path, size))

    def end_waiting(self) -> None:
        """Lets all threads give up that wait for the place."""
        self._waiting.end()

    def close(self) -> None:
        """Closes connections."""
        self._place.close()


Images = Path | RemoteFolder


@contextmanager
def opened_images(source: Source, waiting: Waiting | None = None) -> Iterator[Images]:
    """Opens a folder of images.

    Args:
        source: a path, or the URL of a folder elsewhere.
        waiting: for a place that is away; by default some minutes.

    Raises:
        ImageError: the URL cannot be used.
    """
    if isinstance(source, Path):
        yield source
        return
    with reported(ImageError):
        folder = RemoteFolder(source, waiting or Waiting())
    try:
        yield folder
    finally:
        folder.end_waiting()
        folder.close()


def read_source(source: Source, waiting: Waiting | None = None) -> bytes:
    """Returns the content of a file.

    Args:
        source: its path or URL.
        waiting: see `opened_images`.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
    """
    if isinstance(source, Path):
        return source.read_bytes()
    url, _, name = source.rpartition("/")
    place = FileStore(url, connections=1)
    try:
        return (waiting or Waiting()).call(lambda: place.read(name))
    finally:
        place.close()


def shown_source(source: Source) -> str:
    """Returns a path or URL as people may see it."""
    return str(source) if isinstance(source, Path) else shown_url(source)


def threads_for(files: Sequence[ImageFile]) -> int:
    """Returns how many threads read files: of a disk one a core, of another place many more."""
    return READING_THREADS if isinstance(next(iter(files), None), RemoteFile) else usable_cores()


def waiting_ender(files: Sequence[ImageFile]) -> Callable[[], None]:
    """Returns what lets threads give up that read these files and wait for their place."""
    first = next(iter(files), None)
    return first.folder.end_waiting if isinstance(first, RemoteFile) else lambda: None


@contextmanager
def reported(kind: type[TrainingError]) -> Iterator[None]:
    """Turns what a place says into an error of ours, which commands and workers show.

    Args:
        kind: of the error.

    Raises:
        TrainingError: of that kind.
    """
    try:
        yield
    except FileStoreError as error:
        raise kind(str(error)) from error
