"""Another machine or container on the same folder: namespaces of the kernel of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--ipc", "--mount", "--uts"]
# The socket of a server is of no use on another machine, although the file is there.
_ENTER = """
import os, socket, subprocess, sys
host, boot, hidden, code, *arguments = sys.argv[1:]
socket.sethostname(host)
if boot:
    subprocess.run(["mount", "--bind", boot, "/proc/sys/kernel/random/boot_id"], check=True)
if os.path.exists(hidden):
    subprocess.run(["mount", "--bind", os.devnull, hidden], check=True)
os.execv(sys.executable, [sys.executable, "-c", code, *arguments])
"""
_START = """
import sys; from pathlib import Path
from canopy_search.storage.errors import EmbeddedPostgresError
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
try:
    EmbeddedPostgres(Path(sys.argv[1])).start()
except EmbeddedPostgresError as error:
    print(error)
else:
    print("started", flush=True)
    sys.stdin.read()
"""


def _can_unshare() -> bool:
    if os.geteuid() != 0:
        return False
    probe = [*_UNSHARE, "mount", "--bind", "/dev/null", "/proc/sys/kernel/random/boot_id"]
    try:
        return subprocess.run(probe, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


needs_namespaces = pytest.mark.skipif(not _can_unshare(), reason="may make no namespaces")


class OtherMachine:
    """A machine with a name and a boot id of its own, or a container of this machine.

    Args:
        name: of the machine.
        boot: file with its boot id; None for a container of this machine.
        sees_socket: whether it can connect to servers of this machine.
    """

    def __init__(self, name: str, boot: Path | None, *, sees_socket: bool = False) -> None:
        self._name, self._sees_socket = name, sees_socket
        self._boot = str(boot) if boot else ""
        if boot is not None:
            boot.write_text(f"boot of {name}\n")

    def begin(self, folder: Path) -> tuple["subprocess.Popen[str]", str]:
        """Starts the server of a folder there; returns the machine's processes and their answer.

        The machine is there until its standard input is closed, and its server ends with it.
        """
        hidden = "" if self._sees_socket else str(folder / "data" / ".s.PGSQL.5432")
        enter = [sys.executable, "-c", _ENTER, self._name, self._boot, hidden]
        machine = subprocess.Popen(
            [*_UNSHARE, *enter, _START, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert machine.stdout is not None
        return machine, machine.stdout.readline().strip()

    def answer(self, folder: Path) -> str:
        """Starts the server of a folder there, and turns the machine off; returns its answer."""
        machine, answer = self.begin(folder)
        with machine:
            machine.communicate()
        return answer
