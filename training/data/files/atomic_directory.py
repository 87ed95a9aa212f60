"""Folders that are either complete or not there, whoever builds them and whatever kills them."""

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def build_atomically(
    folder: Path, is_complete: Callable[[Path], bool], build: Callable[[Path], None]
) -> None:
    """Builds a folder under another name and moves it into place, unless it is complete already.

    One process builds at a time among the folders beside it; others wait and then find what was
    built. The lock is the operating system's own, so it ends with its holder, and what a killed
    builder left behind is removed by the next one.

    Args:
        folder: the folder to have.
        is_complete: whether an existing folder is whole; one that is not is replaced.
        build: fills the empty folder that it is given.
    """
    if is_complete(folder):
        return
    shelf = folder.parent
    shelf.mkdir(parents=True, exist_ok=True)
    with FileLock(shelf / ".lock"):
        for leftover in shelf.glob("*.partial"):
            shutil.rmtree(leftover)
        if is_complete(folder):
            return
        partial = shelf / f"{folder.name}.partial"
        partial.mkdir()
        try:
            build(partial)
        except BaseException:
            shutil.rmtree(partial)
            raise
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
