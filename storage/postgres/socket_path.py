"""The path that clients use to reach a Unix socket in a folder with any name.

A socket's address has at most 103 bytes, and commas and colons in it are parsed as lists of hosts.
The server itself is not affected: it binds the socket relative to its working folder. If the path
of a folder is too long or has such characters, clients use a symbolic link in a private folder,
which any of them can create again.
"""

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from uuid import uuid4

from canopy_search.storage.errors import EmbeddedPostgresError

SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_ADDRESS_BYTES = 103


def socket_folder(data: Path) -> Path:
    """Returns a path of `data` that libpq can connect through: itself, or a short link to it.

    Args:
        data: the absolute path of the folder that contains the socket.

    Raises:
        EmbeddedPostgresError: no private folder for the link can be created.
    """
    if _is_address(data):
        return data
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    reasons = []
    for base in _short_folders():
        link = base / f"canopy-{os.geteuid()}" / name
        if not _is_address(link):
            reasons.append(f"{link} is too long")
            continue
        try:
            _make_private(link.parent)
            _point(link, data)
        except OSError as error:
            reasons.append(str(error))
            continue
        return link
    raise EmbeddedPostgresError(
        f"{data} does not fit into a socket's address, and no short link to it can be created "
        f"({'; '.join(reasons)}); set CANOPY_HOME to a folder with a shorter path"
    )


def _is_address(folder: Path) -> bool:
    name = str(folder)
    fits = len(os.fsencode(folder / SOCKET_NAME)) <= LONGEST_ADDRESS_BYTES
    return fits and name.isprintable() and not set(name) & {",", ":"}


def _short_folders() -> list[Path]:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    temporary = (tempfile.gettempdir(), "/tmp")  # noqa: S108 -- see _make_private
    return [Path(folder) for folder in (runtime, *temporary) if folder]


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
        if not private or found.st_uid != os.geteuid():
            raise PermissionError(f"{folder} is not a private folder of this user") from None


def _point(link: Path, data: Path) -> None:
    if link.is_symlink() and link.readlink() == data:
        return
    # Renaming replaces a wrong link atomically.
    fresh = link.with_name(f"{link.name}-{uuid4().hex[:8]}")
    fresh.symlink_to(data)
    fresh.replace(link)
