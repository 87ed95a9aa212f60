"""The Postgres server from a pip package, started and stopped for one state folder.

The server listens on a Unix socket inside its own data folder and nowhere else, so a server that
answers there serves this folder, also after the folder was moved. It outlives the process that
started it and is shared by all. Postgres's own lock, `postmaster.pid` with a shared memory segment,
protects the data on one machine, and `machine.py` from the others.
"""

import os
import shutil
import signal
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

import psutil
import sqlalchemy
from filelock import FileLock, Timeout

from canopy_search.filestore.user_files import real_path
from canopy_search.storage.errors import EmbeddedPostgresError
from canopy_search.storage.postgres.machine import check_not_elsewhere, claimed
from canopy_search.storage.postgres.postmaster import (
    find_postmaster,
    is_alive,
    living,
    recorded_pid,
)
from canopy_search.storage.postgres.programs import (
    POSTGRES_VERSION,
    environment,
    error_line,
    program,
)
from canopy_search.storage.postgres.service_account import (
    REFUSED,
    REMEDY,
    ServiceAccount,
    command_for,
    service_account,
)
from canopy_search.storage.postgres.socket_path import SOCKET_NAME, socket_folder

START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0

_POLL_S = 0.03
_INITDB = (
    "--username=postgres",
    "--auth-local=trust",
    # If someone opens a TCP port by hand, it must still reject everyone.
    "--auth-host=reject",
    "--encoding=UTF8",
    "--locale=C",
    "--no-instructions",
)
# On the command line they override every file in the data folder, and no shell parses them.
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_directories": ".",
    "unix_socket_permissions": "0700",
    "port": "5432",
    # Containers have a small /dev/shm, and some systems empty it when the user logs out.
    "dynamic_shared_memory_type": "mmap",
    "max_wal_size": "256MB",
    "log_checkpoints": "off",
}
# Prints the process id; the output goes to a file, and the shell ends.
_IN_BACKGROUND = ("/bin/sh", "-c", 'umask 077; log=$1; shift; "$@" >>"$log" 2>&1 & echo $!', "sh")


class EmbeddedPostgres:
    """A Postgres server with its data in one folder, reachable by the folder's owner only.

    Args:
        folder: contains its data, log and start lock; it is created when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = real_path(folder)
        self._data = self._folder / "data"

    def __repr__(self) -> str:
        return f"EmbeddedPostgres({str(self._folder)!r})"

    @property
    def folder(self) -> Path:
        """The folder that contains the server's data and log."""
        return self._folder

    @property
    def log_path(self) -> Path:
        """The server's log file."""
        return self._folder / "log"

    @property
    def url(self) -> sqlalchemy.URL:
        """The URL of the server while it runs.

        Raises:
            EmbeddedPostgresError: the folder's path is too long and cannot be shortened.
        """
        return sqlalchemy.URL.create(
            "postgresql+psycopg2",
            username="postgres",
            database="postgres",
            query={"host": str(socket_folder(self._data)), "port": "5432"},
        )

    def has_data(self) -> bool:
        """Whether there is a database in the folder, running or not.

        Raises:
            EmbeddedPostgresError: that cannot be known, since the folder is none or is not ours.
        """
        try:
            self._data.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unusable(error) from error
        return True

    def is_running(self) -> bool:
        """Whether the server accepts our connections."""
        if not os.access(self._data / SOCKET_NAME, os.F_OK):
            return False
        command = [program("pg_isready"), "--quiet", "--host", str(socket_folder(self._data))]
        command += ["--port=5432", "--username=postgres", "--dbname=postgres", "--timeout=3"]
        return subprocess.run(command, check=False, env=environment()).returncode == 0

    def start(self) -> sqlalchemy.URL:
        """Starts the server unless it runs, and returns its URL.

        Raises:
            EmbeddedPostgresError: it cannot be started, does not answer, or runs on another
                machine.
        """
        check_not_elsewhere(self._folder)
        if not self.is_running():
            self._prepare_folder()
            with self._alone():
                account = service_account(self._folder)
                self._create_data(account)
                self._bring_up(account)
        return self.url

    def stop(self) -> bool:
        """Stops the server; open transactions are rolled back.

        Returns:
            Whether there was one.

        Raises:
            EmbeddedPostgresError: it does not stop, belongs to another user, or runs on another
                machine.
        """
        if not self.has_data():
            return False
        check_not_elsewhere(self._folder)
        with self._alone():
            postmaster = find_postmaster(self._data)
            if postmaster is None:
                if self.is_running():
                    raise EmbeddedPostgresError(
                        f"a Postgres answers in {self._data}, but its process is unknown; "
                        "stop it by hand, its process id is the first line of postmaster.pid there"
                    )
                return False
            self._end(postmaster)
        return True

    def _prepare_folder(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.geteuid() not in (0, self._folder.stat().st_uid):
                raise self._not_ours()
            self._folder.chmod(0o700)
        except OSError as error:
            raise self._unusable(error) from error

    def _alone(self) -> AbstractContextManager[object]:
        lock = FileLock(self._folder / "start.lock", timeout=START_LIMIT_S + STOP_LIMIT_S)
        try:
            return lock.acquire()
        except Timeout as error:
            raise EmbeddedPostgresError(
                f"another process has been starting or stopping the Postgres in {self._folder} "
                f"for {lock.timeout:.0f} s; see {self.log_path}"
            ) from error
        except PermissionError as error:
            raise self._not_ours() from error

    def _create_data(self, account: ServiceAccount | None) -> None:
        version = self._data / "PG_VERSION"
        if version.exists():
            self._check_version(version.read_text(errors="replace").strip())
            return
        try:
            self._data.rmdir()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise EmbeddedPostgresError(
                f"{self._data} exists and contains no database; move it elsewhere"
            ) from error
        # A folder gets its final name when it is complete; others are left from interrupted starts.
        for leftover in self._folder.glob("data.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh = self._folder / f"data.new-{uuid4().hex[:8]}"
        initdb = [program("initdb"), "--pgdata", str(fresh), *_INITDB]
        result = _run(command_for(account, initdb), environment())
        if account and result.returncode in REFUSED:
            raise _no_account(result.stderr)
        if result.returncode != 0:
            raise EmbeddedPostgresError(
                f"no database could be created in {self._folder}: {error_line(result.stderr)}"
            )
        fresh.rename(self._data)
        _write_through(self._folder)

    def _check_version(self, version: str) -> None:
        if version != POSTGRES_VERSION:
            raise EmbeddedPostgresError(
                f"{self._data} was created by Postgres {version}, and this Canopy includes "
                f"Postgres {POSTGRES_VERSION}; use the Canopy that created it, or set CANOPY_HOME "
                "to a new folder"
            )

    def _bring_up(self, account: ServiceAccount | None) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        launched: psutil.Process | None = None
        log_bytes: int | None = None
        while not self.is_running():
            if time.monotonic() > deadline:
                raise self._no_answer(find_postmaster(self._data) or launched)
            starting = launched is not None and is_alive(launched)
            if not starting and find_postmaster(self._data) is None:
                if log_bytes is not None:
                    self._check_retry_helps(log_bytes)
                log_bytes = self.log_path.stat().st_size if self.log_path.exists() else 0
                launched = self._launch(account)
            time.sleep(_POLL_S)

    def _launch(self, account: ServiceAccount | None) -> psutil.Process | None:
        if account is not None:
            account.hand_over(self._data)
        # No server runs here now, so the socket's lock is a leftover and may name any process.
        (self._data / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)
        variables = environment()
        stale = recorded_pid(self._data)
        if stale is not None:
            # Postgres treats any running process with the recorded id as a server of this folder,
            # except its "grandparent". The check of the shared memory stays on.
            variables["PG_GRANDPARENT_PID"] = str(stale)
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        postgres = [program("postgres"), "-D", str(self._data), *settings]
        launch = [*_IN_BACKGROUND, str(self.log_path), *postgres]
        with claimed(self._folder) as lock:
            result = _run(command_for(account, launch), variables, (lock,))
        if result.returncode != 0:
            raise _no_account(result.stderr) if account else self._failed(result.stderr)
        return living(int(result.stdout))

    def _check_retry_helps(self, log_bytes: int) -> None:
        with self.log_path.open("rb") as log:
            log.seek(log_bytes)
            output = log.read().decode(errors="replace")
        # The child processes of a killed server take a moment to notice.
        if "pre-existing shared memory block" not in output:
            raise self._failed(output)

    def _end(self, postmaster: psutil.Process) -> None:
        deadline = time.monotonic() + STOP_LIMIT_S
        try:
            postmaster.send_signal(signal.SIGINT)
        except psutil.AccessDenied as error:
            raise self._not_ours() from error
        except psutil.NoSuchProcess:
            return
        while is_alive(postmaster):
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"the Postgres in {self._folder} (process {postmaster.pid}) has not stopped "
                    f"for {STOP_LIMIT_S:.0f} s; see {self.log_path}"
                )
            time.sleep(_POLL_S)

    def _not_ours(self) -> EmbeddedPostgresError:
        return EmbeddedPostgresError(
            f"{self._folder} belongs to another user; set CANOPY_HOME to a folder of your own"
        )

    def _unusable(self, error: OSError) -> EmbeddedPostgresError:
        """Returns the error for a folder that cannot be opened, or is none."""
        reason = error.strerror
        if isinstance(error, NotADirectoryError | FileExistsError):
            parents = [path for path in (self._folder, *self._folder.parents) if path.exists()]
            reason = f"{parents[0]} is not a folder"
        return EmbeddedPostgresError(
            f"{self._folder} cannot be used by the embedded Postgres ({reason}); set CANOPY_HOME "
            "to a folder that you can write to"
        )

    def _failed(self, output: str) -> EmbeddedPostgresError:
        return EmbeddedPostgresError(
            f"the Postgres in {self._folder} could not be started: {error_line(output)} "
            f"(see {self.log_path})"
        )

    def _no_answer(self, process: psutil.Process | None) -> EmbeddedPostgresError:
        which = f" (process {process.pid})" if process is not None else ""
        return EmbeddedPostgresError(
            f"the Postgres in {self._folder}{which} has not answered for {START_LIMIT_S:.0f} s; "
            f"see {self.log_path}"
        )


def _run(
    command: list[str], variables: dict[str, str], inherited: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=variables,
        pass_fds=inherited,
        # Ctrl-C in our terminal must not stop a server that others use.
        start_new_session=True,
    )


def _no_account(reason: str) -> EmbeddedPostgresError:
    return EmbeddedPostgresError(
        "Postgres refuses to run as root, and running it as another account is not allowed here "
        f"({reason.strip()}); {REMEDY}"
    )


def _write_through(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
