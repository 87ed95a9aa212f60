"""Digests of image files, stored so that only changed files are read again."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from canopy_search.filestore.atomic import write_atomically
from canopy_search.training.data.files.parallel import map_in_order, runs, usable_cores
from canopy_search.training.data.files.sources import read_image

State = tuple[int, int | str]
"""Size and modification time of a file; for a remote file, its version in the file store."""

# File → its state and digest, as JSON values.
Index = dict[str, tuple[int, int | str, str]]

_REVISION = "canopy digests 1"
_FILES_PER_TASK = 64

# A file written this shortly before reading could be written again with the same size and time (FAT
# has a resolution of two seconds), so its digest is not stored yet.
_SETTLING_NS = 2_000_000_000


def image_digests(
    paths: Sequence[Path], index: Path, on_progress: Callable[[int, int], None] | None = None
) -> list[str | None]:
    """Returns the SHA-256 of every file, from the index if size and modification time match.

    Args:
        paths: absolute paths of the files.
        index: the file that stores digests; after its removal all images are read once more.
        on_progress: called with (files read, files to read) while files are read.

    Returns:
        Hexadecimal digests in the order of the paths; None for a file that cannot be read.
    """
    files = [os.fspath(path) for path in paths]
    remembered = read_index(index)
    started_ns = time.time_ns()
    states = [_state(path) for path in paths]
    current: dict[str, str] = {
        file: entry[2]
        for file, state in zip(files, states, strict=True)
        if (entry := remembered.get(file)) and entry[:2] == state
    }
    changed = [file for file in files if file not in current]
    if not changed:
        return [current[file] for file in files]
    read = _digests(changed, on_progress)
    current |= {file: digest for file, digest in read.items() if digest is not None}
    remembered |= {
        file: (*state, current[file])
        for file, state in zip(files, states, strict=True)
        if state is not None and file in current and abs(started_ns - state[1]) > _SETTLING_NS
    }
    write_index(index, remembered)
    return [current.get(file) for file in files]


def _digests(
    files: list[str], on_progress: Callable[[int, int], None] | None
) -> dict[str, str | None]:
    """Returns file → digest of its bytes."""
    digests: dict[str, str | None] = {}
    cores = usable_cores()
    for task_digests in map_in_order(
        lambda run: {files[at]: _digest(files[at]) for at in run},
        runs(len(files), _FILES_PER_TASK),
        threads=cores,
        ahead=4 * cores,
    ):
        digests |= task_digests
        if on_progress:
            on_progress(len(digests), len(files))
    return digests


def _digest(file: str) -> str | None:
    try:
        return hashlib.sha256(read_image(Path(file))).hexdigest()
    except OSError:
        return None


def _state(path: Path) -> tuple[int, int] | None:
    """Returns size and modification time of a file, None if it cannot be accessed."""
    try:
        status, of_link = path.stat(), path.lstat()
    except OSError:
        return None
    # A link that points to another file now, of equal size and time, is a new link.
    return status.st_size, max(status.st_mtime_ns, of_link.st_mtime_ns)


def read_index(index: Path) -> Index:
    """Returns the stored digests; empty if the index is missing or damaged."""
    try:
        revision, checksum, body = index.read_bytes().split(b"\n", 2)
    except (FileNotFoundError, ValueError):
        return {}
    if revision != _REVISION.encode() or checksum != _checksum(body):
        return {}
    return {file: (size, mtime, digest) for file, (size, mtime, digest) in json.loads(body).items()}


def write_index(index: Path, remembered: Index) -> None:
    """Replaces the index by these files with their states and digests."""
    body = json.dumps(remembered, separators=(",", ":")).encode()
    # Concurrent writers each leave a complete index, even from containers with equal process ids.
    write_atomically(index, b"\n".join((_REVISION.encode(), _checksum(body), body)))


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
