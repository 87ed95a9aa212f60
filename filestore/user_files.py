"""Reading files that a user names, which may be anything: a device, a pipe, a link to itself."""

import errno
import os
import stat
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
