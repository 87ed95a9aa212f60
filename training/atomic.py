"""Writing a file so that a reader sees the old one or the new one, and never a half of either."""

import errno
import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` to `path` by way of a temporary file beside it.

    A symbolic link stays one and its target is replaced. A device or a pipe, such as
    ``/dev/stdout``, is written to and not replaced.

    Args:
        path: the file; its folder is made if missing.
        content: all of its bytes.

    Raises:
        OSError: the folder cannot be written or the disk is full; `path` is then as it was before.
    """
    if _is_no_plain_file(path):
        path.write_bytes(content)  # a folder fails here, and says so
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


def _is_no_plain_file(path: Path) -> bool:
    """Whether something is there that must not be replaced, such as a device, a pipe, a folder."""
    # /dev/stdout may lead to a plain file that the shell holds open.
    return path.exists() and (not path.is_file() or path.absolute().parts[1:2] == ("dev",))


def _target(path: Path) -> Path:
    """Where the content goes in the end."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_writable(path: Path) -> None:
    """Makes sure that `write_atomically` will find a folder that it can write to.

    Raises:
        OSError: it cannot; the error names the folder.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if _is_no_plain_file(path):
        return
    path = _target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path.parent)) from error
