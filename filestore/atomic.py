"""Atomic files and folders: a reader sees the old one or the new one, never a partial one."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

PARTIAL = ".part"
"""How the name of a partial file ends."""


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` to `path` through a partial file in the same folder.

    A symbolic link stays a link and its target is replaced. A device or a pipe, such as
    ``/dev/stdout``, is written to directly.

    Args:
        path: the file; its folder is created if missing.
        content: the complete content.

    Raises:
        OSError: the folder is not writable or the disk is full; `path` is then unchanged.
    """
    if _is_special_file(path):
        with _named(path):
            path.write_bytes(content)  # raises if it is a folder
        return
    path = _target(path)
    _make_folder(path.parent)
    replace_file(path, content, is_durable=True)


def replace_file(path: Path, content: bytes, *, is_durable: bool) -> None:
    """Replaces a file in an existing folder.

    Args:
        path: the file.
        content: the complete content.
        is_durable: whether to wait until it survives a power failure.

    Raises:
        OSError: see `write_atomically`.
    """
    partial = path.with_name(partial_name(path.name))
    try:
        with _named(path):
            with partial.open("xb") as file:
                file.write(content)
                if is_durable:
                    file.flush()
                    os.fsync(file.fileno())
            partial.replace(path)
    except BaseException:
        with suppress(OSError):  # its name may be too long, for example
            partial.unlink()
        raise


def partial_name(name: str) -> str:
    """Returns the name of a partial file, a new one for each attempt."""
    return f"{name}.{uuid4().hex[:8]}{PARTIAL}"


def check_writable(path: Path) -> None:
    """Checks that `write_atomically` can write `path`; nothing is left of the attempt.

    Raises:
        OSError: it cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if _is_special_file(path):
        return
    path = _target(path)
    _make_folder(path.parent)
    partial = path.with_name(partial_name(path.name))
    with _named(path):
        partial.touch(exist_ok=False)
    partial.unlink()


def build_atomically(
    folder: Path, is_complete: Callable[[Path], bool], build: Callable[[Path], None]
) -> None:
    """Builds a folder under a temporary name and renames it, unless it is already complete.

    One process at a time builds folders with the same parent; others wait and then find the
    result. The operating system releases the lock when its process ends, and the next builder
    removes the partial folder of a killed one.

    Args:
        folder: the folder to build.
        is_complete: whether an existing folder is complete; an incomplete one is replaced.
        build: fills the empty folder passed to it.
    """
    if is_complete(folder):
        return
    parent = folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    with FileLock(parent / ".lock"):
        for leftover in parent.glob("*.partial"):
            shutil.rmtree(leftover)
        if is_complete(folder):
            return
        partial = parent / f"{folder.name}.partial"
        partial.mkdir()
        try:
            build(partial)
        except BaseException:
            shutil.rmtree(partial)
            raise
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(errno.ENOTDIR, "is not a folder", error.filename) from error


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Names `path` in errors: a full disk has no file name, and a partial file not the user's."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _is_special_file(path: Path) -> bool:
    """Whether the path must not be replaced, such as a device, a pipe or a folder."""
    # /dev/stdout may point to a regular file that the shell has open.
    return path.exists() and (not path.is_file() or path.absolute().parts[1:2] == ("dev",))


def _target(path: Path) -> Path:
    """Returns the file to replace, with symbolic links resolved."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path
