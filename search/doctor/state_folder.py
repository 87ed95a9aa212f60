"""Checks of the state folder: whether it is writable, and whether the disk has space."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from canopy_search.filestore.user_files import real_path
from canopy_search.search.doctor.finding import Finding, error, ok, warning
from canopy_search.search.environment import HOME_VARIABLE
from canopy_search.training.data.cache.pixels import cache_bytes
from canopy_search.training.data.dataset import DataFacts
from canopy_search.training.data.images.skipped import TOLERATED
from canopy_search.training.sizes import size_text

# The embedded database with its logs, and the checkpoints of a few trials.
_OTHER_FILES_BYTES = 2**30
_NETWORK_KINDS = frozenset(
    {
        *(
            "nfs",
            "nfs4",
            "cifs",
            "smb2",
            "smb3",
            "smbfs",
            "9p",
            "virtiofs",
            "afs",
            "afpfs",
            "webdav",
        ),
        *("lustre", "gpfs", "beegfs", "ceph", "glusterfs", "orangefs", "pvfs2", "panfs", "wekafs"),
        *("gfs", "gfs2", "ocfs2", "webdav", "davfs", "ncpfs", "coda", "osxfuse", "macfuse"),
    }
)
# Most file systems of FUSE are sshfs and its like.
_LOCAL_KINDS = ("fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.encfs", "fuse.ntfs-3g")


def check_state_folder(home: Path) -> Iterator[Finding]:
    """Writes an unnamed temporary file to the state folder, or to where it will be created."""
    remedy = f"set {HOME_VARIABLE} to a writable folder"
    nearest = _nearest(home)
    if not nearest.is_dir():
        yield error("state folder", f"{nearest} is not a folder", remedy)
        return
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"canopy doctor")
    except OSError as problem:
        yield error("state folder", f"{home} is not writable: {problem.strerror}", remedy)
        return
    yield ok("state folder", f"{home}" if home.exists() else f"{home}, created by the first search")


def check_disk(home: Path, data: DataFacts | None) -> Iterator[Finding]:
    """Compares the free disk space with what the cache of decoded images will need.

    Args:
        home: the state folder.
        data: facts about the images to decode; None if unknown.
    """
    free = shutil.disk_usage(_nearest(home)).free
    needed = cache_bytes(data.images, data.image_px) if data else 0
    found = f"{size_text(free)} free"
    if needed and _is_cached(home, needed):
        found += f", the {size_text(needed)} of decoded images exist already"
        needed = 0
    elif needed:
        found += f", the decoded images will take {size_text(needed)}"
    remedy = f"make room there, or set {HOME_VARIABLE} to a folder on a larger disk"
    if free < needed:
        yield error("disk", found, f"{remedy}, or lower data.image_px")
    elif free < needed + _OTHER_FILES_BYTES:
        others = size_text(_OTHER_FILES_BYTES)
        yield warning("disk", f"{found}; database and checkpoints need up to {others}", remedy)
    else:
        yield ok("disk", found)


def network_file_system(home: Path) -> str | None:
    """Returns the kind of the network file system that a state folder is on; None for a disk."""
    place, kind, longest = real_path(_nearest(home)), "", -1
    for mount in psutil.disk_partitions(all=True):
        folder = Path(mount.mountpoint)
        # Of two file systems at one place, the later one is seen.
        if place.is_relative_to(folder) and len(folder.parts) >= longest:
            kind, longest = mount.fstype, len(folder.parts)
    is_network = kind in _NETWORK_KINDS or kind.startswith("fuse.")
    return kind if is_network and kind not in _LOCAL_KINDS else None


def _is_cached(home: Path, needed_bytes: int) -> bool:
    """Whether a cache of about this size exists; it does not contain damaged images.

    Knowing whether it belongs to these images would require reading all of them.
    """
    smallest = (1 - TOLERATED) * needed_bytes
    return any(
        smallest <= file.stat().st_size <= needed_bytes for file in (home / "cache").glob("*/*")
    )


def _nearest(home: Path) -> Path:
    """Returns the state folder, or its nearest existing parent."""
    return next(path for path in (home, *home.parents) if path.exists())
