"""A server whose disk is full for a while."""

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from canopy_search.storage.postgres.programs import environment, program
from canopy_search.storage.postgres.service_account import command_for, service_account
from tests.faults.conftest import Facts, NewSearch, searches
from tests.faults.invariants import check
from tests.faults.searching import wait_until
from tests.faults.sleeping_run import SleepingRun

DISK_MIB = 96


class SmallDisk:
    """A server whose data lies on a small disk of its own, which nobody else sees."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.sockets = folder / "sockets"
        self.sockets.mkdir(mode=0o777)
        self.sockets.chmod(0o777)
        self.disk = folder / "disk"
        self.disk.mkdir()
        account = service_account(folder)
        mount = f"mount -t tmpfs -o size={DISK_MIB}m tmpfs {self.disk}"
        copy = f"cp -r --preserve=mode {data} {self.disk}/data"
        command = [program("postgres"), "-D", f"{self.disk}/data", "-k", str(self.sockets)]
        command += ["-c", "listen_addresses=", "-c", "dynamic_shared_memory_type=mmap"]
        if account is not None:
            copy += f" && chown -R {account.uid}:{account.gid} {self.disk}/data"
            command = command_for(account, command)
        else:  # root in its own mounts, and not for Postgres, which refuses that
            command = ["unshare", "--user", "--map-user=1000", "--map-group=1000", *command]
        mounts = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
        script = f"{mount} && {copy} && exec {shlex.join(command)}"
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [*mounts, "sh", "-c", script],
            env=environment(),
            stdout=self._log,
            stderr=self._log,
        )
        wait_until(self._answers, f"it answers: {(folder / 'log').read_text()}")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.sockets}"

    def fill(self) -> None:
        """Leaves no room."""
        with self._filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)

    def free(self) -> None:
        self._filler.unlink()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        self._log.close()

    @property
    def _filler(self) -> Path:
        return Path(f"/proc/{self._process.pid}/root{self.disk}/filler")

    def _answers(self) -> bool:
        try:
            psycopg2.connect(host=str(self.sockets), user="postgres", dbname="postgres").close()
        except psycopg2.OperationalError:
            return False
        return True


@pytest.fixture
def small_disk(prepared_data: Path, tmp_path: Path) -> Iterator[SmallDisk]:
    server = SmallDisk(tmp_path, prepared_data)
    yield server
    server.stop()


def test_a_disk_that_is_full_for_a_while_is_waited_for(
    data_folder: Path,
    small_disk: SmallDisk,
    undisturbed: Callable[..., Facts],
    tmp_path: Path,
) -> None:
    def write_much() -> None:
        SleepingRun.padding_bytes = 6000

    make: Iterator[NewSearch] = searches(data_folder, tmp_path / "home", small_disk.url)
    search = next(make)(prepare=write_much)
    begun = search.begin()
    search.hold_from(3)
    worker = search.start()
    search.wait_for_epochs(3)
    small_disk.fill()
    search.let_go()
    wait_until(lambda: "disk is full" in worker.said(), "it is told")
    small_disk.free()
    assert worker.end() == 0, worker.said()
    assert "database is back" in worker.said()
    outcome = check(search, begun)
    assert outcome.facts() == undisturbed()
