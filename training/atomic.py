"""Atomic file writes: a reader sees the old file or the new one, never a partial one."""

import errno
import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` to `path` through a temporary file in the same folder.

    A symbolic link stays a link and its target is replaced. A device or a pipe, such as
    ``/dev/stdout``, is written to directly.

    Args:
        path: the file; its folder is created if missing.
        content: the complete content.

    Raises:
        OSError: the folder is not writable or the disk is full; `path` is then unchanged.
    """
    if _is_special_file(path):
        path.write_bytes(content)  # raises if it is a folder
        return
    path = _target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _is_special_file(path: Path) -> bool:
    """Whether the path must not be replaced, such as a device, a pipe or a folder."""
    # /dev/stdout may point to a regular file that the shell has open.
    return path.exists() and (not path.is_file() or path.absolute().parts[1:2] == ("dev",))


def _target(path: Path) -> Path:
    """Returns the file to replace, with symbolic links resolved."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_writable(path: Path) -> None:
    """Checks that `write_atomically` can write to the folder of `path`.

    Raises:
        OSError: it cannot be written; the error names the folder.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if _is_special_file(path):
        return
    path = _target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path.parent)) from error
