"""Events of a job, in an append-only file that can be read while it is written.

A record is its length, its checksum and a pickle. If a record is incomplete, or a network file
system shows only part of it, the reader waits until it is complete before it reads on. Only the
owner can access the folder of the files.
"""

import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

_HEAD = struct.Struct("<II")

Item = tuple[str, tuple[Any, ...], str]
"""Name, arguments and worker id of one event."""


class EventLog:
    """Appends records to the file.

    Args:
        path: path of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def emit(self, name: str, arguments: tuple[Any, ...] = (), worker_id: str = "") -> None:
        """Appends a record.

        Raises:
            OSError: the file cannot be written.
        """
        body = pickle.dumps((name, arguments, worker_id))
        # A network file system shows the data to other machines when the file is closed.
        with self._path.open("ab") as file:
            file.write(_HEAD.pack(len(body), zlib.crc32(body)) + body)


class EventLogTail:
    """Reads new records of the file.

    Args:
        path: path of the file, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0

    def read(self) -> list[Item]:
        """Returns the records completed since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read_bytes)
                new = file.read()
        except OSError:
            return []
        items, offset = [], 0
        while len(new) - offset >= _HEAD.size:
            length, checksum = _HEAD.unpack_from(new, offset)
            body = new[offset + _HEAD.size : offset + _HEAD.size + length]
            if not length or len(body) < length or zlib.crc32(body) != checksum:
                break
            items.append(pickle.loads(body))  # noqa: S301 - written by our own job
            offset += _HEAD.size + length
        self._read_bytes += offset
        return items
