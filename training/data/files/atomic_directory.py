"""Folders built atomically: they are complete or missing, even if a process is killed."""

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


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
