"""What a job tells, in a file that only grows and may be read while it is written.

A record is its length, its checksum and a pickle. One that is torn, or that a network file system
shows in part, is read when it is whole; what comes after it waits as long. The files lie in a
folder that is its owner's alone.
"""

import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

_HEAD = struct.Struct("<II")

Item = tuple[str, tuple[Any, ...], str]
"""Name, arguments and speaker of one thing that is told."""


class EventLog:
    """Adds to the file.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def emit(self, name: str, arguments: tuple[Any, ...] = (), worker_id: str = "") -> None:
        """Adds a record.

        Raises:
            OSError: the file cannot be written.
        """
        body = pickle.dumps((name, arguments, worker_id))
        # Closing a file is what hands it to the others of a network file system.
        with self._path.open("ab") as file:
            file.write(_HEAD.pack(len(body), zlib.crc32(body)) + body)


class EventLogTail:
    """Reads what is new in the file.

    Args:
        path: of the file, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0

    def read(self) -> list[Item]:
        """Returns the records that have become whole since the last time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read_bytes)
                new = file.read()
        except OSError:
            return []
        items, at = [], 0
        while len(new) - at >= _HEAD.size:
            length, checksum = _HEAD.unpack_from(new, at)
            body = new[at + _HEAD.size : at + _HEAD.size + length]
            if not length or len(body) < length or zlib.crc32(body) != checksum:
                break
            items.append(pickle.loads(body))  # noqa: S301 - the job's own
            at += _HEAD.size + length
        self._read_bytes += at
        return items
