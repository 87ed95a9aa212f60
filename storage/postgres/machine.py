"""The machine that runs the server of a folder, so that no other machine starts a second server.

Postgres compares process ids and shared memory, which other machines and containers do not see. So
the machine is recorded beside the data, and the server holds a lock for as long as it or one of its
processes runs. The lock alone is not enough: some network file systems keep locks to each machine.
"""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from canopy_search.filestore.atomic import write_atomically
from canopy_search.storage.errors import EmbeddedPostgresError
from canopy_search.storage.postgres.postmaster import recorded_pid

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESSES = Path("/proc/self/ns/pid")
_HELD = (errno.EAGAIN, errno.EACCES)


@dataclass(frozen=True)
class Machine:
    """Where processes see each other.

    Attributes:
        host: its name.
        boot: changes whenever its kernel starts.
        processes: id of the process namespace: of the container, or of the machine itself.
    """

    host: str
    boot: str
    processes: str

    def sees(self, other: "Machine") -> bool:
        """Whether the processes there are visible here; a machine may have got a new name."""
        return (self.boot, self.processes) == (other.boot, other.processes)

    def is_foreign(self, other: "Machine") -> bool:
        """Whether that is another machine, and not this one or its containers before a reboot."""
        return self.boot != other.boot and self.host != other.host


def this_machine() -> Machine:
    """Returns the machine and container of this process."""
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else f"{psutil.boot_time():.0f}"
    processes = str(_PROCESSES.readlink()) if _PROCESSES.is_symlink() else ""
    return Machine(socket.gethostname(), boot, processes)


def check_not_elsewhere(folder: Path) -> None:
    """Checks that the server of a folder was not left running by another machine.

    Raises:
        EmbeddedPostgresError: it was: its data are still marked as in use.
    """
    if not (folder / "data" / "postmaster.pid").exists():
        return
    recorded = _recorded(folder)
    if recorded is not None and this_machine().is_foreign(recorded):
        raise _elsewhere(folder, recorded, is_locked=False)


@contextmanager
def claimed(folder: Path) -> Iterator[int]:
    """Records this machine as the one that runs the server, and yields the server's lock.

    Yields:
        An open file; the lock lasts until all processes that inherit it have ended.

    Raises:
        EmbeddedPostgresError: a server that cannot be seen from here holds the lock.
    """
    check_not_elsewhere(folder)
    here, recorded = this_machine(), _recorded(folder)
    lock = os.open(folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0:  # the folder's owner has to open it later
            owner = folder.stat()
            with suppress(PermissionError):
                os.fchown(lock, owner.st_uid, owner.st_gid)
        if recorded is None or not here.sees(recorded):
            if not _lock(lock, fcntl.LOCK_EX):
                raise _elsewhere(folder, recorded or here, is_locked=True)
            write_atomically(_record(folder), json.dumps(asdict(here)).encode())
        # Shared: the last processes of a killed server, which Postgres waits for, may have it yet.
        _lock(lock, fcntl.LOCK_SH)
        yield lock
    finally:
        os.close(lock)


def _lock(file: int, kind: int) -> bool:
    """Takes a lock; returns False if somebody else has it, True also where there are no locks."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _HELD
    return True


def _record(folder: Path) -> Path:
    return folder / "server.json"


def _recorded(folder: Path) -> Machine | None:
    try:
        return Machine(**json.loads(_record(folder).read_text()))
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return None


def _elsewhere(folder: Path, machine: Machine, *, is_locked: bool) -> EmbeddedPostgresError:
    where = f"on the machine {machine.host}"
    if machine.host == this_machine().host:
        where = f"in another container, or on another machine called {machine.host}"
    remedy = "stop it there with canopy db stop, or let both use a server (DATABASE_URL)"
    if not is_locked:
        remedy += (
            f", or, only if {machine.host} is off or was restarted, delete {_record(folder)} and "
            "run the same command again"
        )
    return EmbeddedPostgresError(
        f"the Postgres in {folder} runs {where} (process {recorded_pid(folder / 'data')} there); "
        + remedy
    )
