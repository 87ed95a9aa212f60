"""Checks of the state folder: whether it can be written, and whether the disk has room."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from canopy_search.search.doctor.data import DataFacts
from canopy_search.search.doctor.finding import Finding, error, ok, warning
from canopy_search.search.environment import HOME_VARIABLE
from canopy_search.training.data.cache.pixels import cache_bytes
from canopy_search.training.data.images.skipped import TOLERATED
from canopy_search.training.sizes import size_text

# The embedded database with its logs, and the checkpoints of a few trials.
_BESIDE_CACHE_BYTES = 2**30


def check_state_folder(home: Path) -> Iterator[Finding]:
    """Writes a nameless file where the state is kept, or will be."""
    remedy = f"set {HOME_VARIABLE} to a folder that you can write to"
    nearest = _nearest(home)
    if not nearest.is_dir():
        yield error("state folder", f"{nearest} is no folder", remedy)
        return
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"canopy doctor")
    except OSError as problem:
        yield error("state folder", f"{home} cannot be written: {problem.strerror}", remedy)
        return
    yield ok("state folder", f"{home}" if home.exists() else f"{home}, made by the first search")


def check_disk(home: Path, data: DataFacts | None) -> Iterator[Finding]:
    """Compares the free disk with what the cache of decoded images will need.

    Args:
        home: the state folder.
        data: how much there is to decode; None if that is not known.
    """
    free = shutil.disk_usage(_nearest(home)).free
    needed = cache_bytes(data.images, data.image_px) if data else 0
    found = f"{size_text(free)} free"
    if needed and _is_cached(home, needed):
        found += f", the {size_text(needed)} of decoded images are there"
        needed = 0
    elif needed:
        found += f", the decoded images will take {size_text(needed)}"
    remedy = f"make room there, or set {HOME_VARIABLE} to a folder on a larger disk"
    if free < needed:
        yield error("disk", found, f"{remedy}, or lower data.image_px")
    elif free < needed + _BESIDE_CACHE_BYTES:
        beside = size_text(_BESIDE_CACHE_BYTES)
        yield warning("disk", f"{found}; database and checkpoints need up to {beside}", remedy)
    else:
        yield ok("disk", found)


def _is_cached(home: Path, needed_bytes: int) -> bool:
    """Whether a cache of this size is there; damaged images are not in it.

    To know that it is the one of these images, all of them would have to be read.
    """
    smallest = (1 - TOLERATED) * needed_bytes
    return any(
        smallest <= file.stat().st_size <= needed_bytes for file in (home / "cache").glob("*/*")
    )


def _nearest(home: Path) -> Path:
    """The state folder, or what is there of the path to it."""
    return next(path for path in (home, *home.parents) if path.exists())
