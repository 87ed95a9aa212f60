"""The embedded server as root, who lets another account run it, and other users beside it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from tests.storage.postgres.embedded_tools import MakeServer, open_folder, postmaster

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be several users")
NOBODY = 65534


_CONNECT = """
import os, socket, sys
if len(sys.argv) > 2:
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
except OSError as error:
    print(type(error).__name__)
else:
    print("connected")
"""


@as_root
@pytest.mark.parametrize("name", ["short", "x" * 200], ids=["short", "long"])
def test_other_users_cannot_connect(
    make_server: MakeServer, stopped_server: Path, name: str
) -> None:
    # The folders above are open, so that it is the server's own that closes.
    with open_folder() as parent:
        server = make_server(shutil.copytree(stopped_server, parent / name))
        url = server.start()
        socket_path = f"{url.query['host']}/.s.PGSQL.5432"
        for user, expected in (((), "connected"), ((str(NOBODY),), "PermissionError")):
            command = [sys.executable, "-W", "ignore", "-c", _CONNECT, socket_path, *user]
            assert subprocess.check_output(command, text=True).strip() == expected
        server.stop()


@as_root
class TestAsRoot:
    def test_parents_stay_closed(self, make_server: MakeServer, tmp_path: Path) -> None:
        private = tmp_path / "private"
        private.mkdir(mode=0o700)
        server = make_server(private / "home" / "postgres")
        server.start()
        assert private.stat().st_mode & 0o777 == 0o700
        assert private.stat().st_uid == 0
        process = postmaster(private / "home" / "postgres" / "data")
        assert process.uids() == (NOBODY, NOBODY, NOBODY)
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "CapEff:\t0000000000000002\n" in status

    def test_data_of_another_owner_is_taken_over(
        self, server: EmbeddedPostgres, data: Path
    ) -> None:
        server.stop()
        for path in (data, *data.rglob("*")):
            os.chown(path, 0, 0)
        server.start()
        assert server.is_running()

    def test_folder_of_an_ordinary_user(self, make_server: MakeServer) -> None:
        with open_folder() as parent:
            folder = parent / "postgres"
            folder.mkdir()
            os.chown(folder, NOBODY, NOBODY)
            server = make_server(folder)
            server.start()
            process = postmaster(folder / "data")
            assert process.uids().real == NOBODY
            # Its owner may connect, and must gain no right of root's by it.
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert "CapEff:\t0000000000000000\n" in status
            for name in ("data", "log"):
                assert (folder / name).stat().st_uid == NOBODY
            server.stop()

    @pytest.mark.parametrize("capability", [1, 7], ids=["DAC_OVERRIDE", "SETUID"])
    def test_root_without_its_powers(self, tmp_path: Path, capability: int) -> None:
        result = self.run_without(capability, tmp_path / "postgres", "start()")
        last = result.stderr.splitlines()[-1]
        assert last.startswith(
            ("canopy_search.storage.errors.EmbeddedPostgresError: ", "EmbeddedPostgresError")
        )
        assert "DATABASE_URL" in last

    def test_root_of_a_container(self, tmp_path: Path) -> None:
        # It may not look into processes of other accounts (CAP_SYS_PTRACE).
        once = "start(), server.stop()"
        result = self.run_without(19, tmp_path / "postgres", f"{once}, server.{once}")
        assert result.stderr == ""
        assert result.stdout.count("True") == 2

    def run_without(
        self, capability: int, folder: Path, calls: str
    ) -> subprocess.CompletedProcess[str]:
        code = (
            "import ctypes, os, sys\n"
            f"assert ctypes.CDLL(None).prctl(24, {capability}, 0, 0, 0) == 0\n"
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        )
        inner = (
            "import sys; from pathlib import Path\n"
            "from canopy_search.storage.postgres.embedded import EmbeddedPostgres\n"
            f"server = EmbeddedPostgres(Path(sys.argv[1])); print((server.{calls}))"
        )
        command = [sys.executable, "-c", code, "-c", inner, str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)
