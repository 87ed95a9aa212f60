"""Files that a user names, which may be anything: a device, a pipe, a link to itself."""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


def read_file(path: Path, most_bytes: int) -> bytes:
    """Returns the content of a regular file.

    Args:
        path: the file, or a link to it.
        most_bytes: size of the largest file of this kind, in bytes.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is not a regular file, is too large, or cannot be read; its `strerror` says so.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        # The size of a file of /proc is unknown before it is read.
        content = b"" if size > most_bytes else file.read(most_bytes + 1)
        if size > most_bytes or len(content) > most_bytes:
            too_large = f"larger than {most_bytes:,} bytes, the most that is read"
            raise OSError(errno.EFBIG, too_large, str(path))
        return content


def open_file(path: Path) -> BinaryIO:
    """Opens a regular file for reading.

    A device such as ``/dev/zero`` has no end, and a pipe that nobody writes to blocks for ever, so
    neither is opened.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is not a regular file, or cannot be read; its `strerror` says so.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "expected a file, found a folder", str(path))
    if not stat.S_ISREG(mode):
        found = "expected a regular file, found a device, a pipe or a socket"
        raise OSError(errno.EINVAL, found, str(path))
    return path.open("rb")


def real_path(path: Path) -> Path:
    """Returns an absolute path without links; unlike `Path.resolve`, also of a link to itself."""
    return Path(os.path.realpath(path))


def is_broken_link(path: Path) -> bool:
    """Whether a path is a symbolic link to something that does not exist."""
    try:
        path.stat()
    except FileNotFoundError:
        return path.is_symlink()
    except OSError:  # reading it will raise this, too
        return False
    return False


@dataclass(frozen=True)
class FilesBelow:
    """The files in a folder and below it.

    Attributes:
        names: their paths relative to the folder, with slashes.
        unfollowed: symbolic links to folders that were not followed.
    """

    names: list[str]
    unfollowed: list[Path]


def files_below(
    folder: Path, on_error: Callable[[OSError], None] | None = None, *, follow_links: bool = False
) -> FilesBelow:
    """Lists the files in a folder and below it, links to files included.

    Args:
        folder: may itself be a link.
        on_error: called for each folder that cannot be listed, which is left out.
        follow_links: whether symbolic links to folders are followed.

    Raises:
        OSError: a link to be followed points to a folder that contains it.
    """
    found = FilesBelow([], [])
    pending: list[tuple[str, tuple[Path, ...]]] = [("", (real_path(folder),))]
    while pending:
        inside, above = pending.pop()
        try:
            entries = list(os.scandir(folder / inside))
        except OSError as error:
            if on_error is not None:
                on_error(error)
            continue
        for entry in entries:
            name = inside + entry.name
            if not _is_folder(entry):
                found.names.append(name)
            elif not entry.is_symlink():
                pending.append((f"{name}/", (*above[:-1], above[-1] / entry.name)))
            elif not follow_links:
                found.unfollowed.append(folder / name)
            else:
                target = real_path(folder / name)
                if any(each.is_relative_to(target) for each in above):
                    text = "a symbolic link to a folder that contains it; remove it"
                    raise OSError(errno.ELOOP, text, str(folder / name))
                pending.append((f"{name}/", (*above, target)))
    return found


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or below a folder that cannot be searched
        return False
