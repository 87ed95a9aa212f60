"""The embedded server in hostile places, after hostile events. Every server here is a real one."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import sqlalchemy

from storage import embedded
from storage.embedded import EmbeddedPostgres
from storage.errors import EmbeddedPostgresError
from storage.postmaster import find_postmaster, is_alive
from storage.service_account import service_account

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be several users")
NOBODY = 65534

MakeServer = Callable[[Path], EmbeddedPostgres]


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    """Makes servers that are stopped after the test."""
    made: list[EmbeddedPostgres] = []

    def make(folder: Path) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(folder))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def stopped_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server that was started once; copying it is faster than making another."""
    folder = tmp_path_factory.mktemp("stopped")
    made = EmbeddedPostgres(folder)
    made.start()
    made.stop()
    return folder


@pytest.fixture
def server(make_server: MakeServer, tmp_path: Path, stopped_server: Path) -> EmbeddedPostgres:
    """A running server in `tmp_path / "postgres"`."""
    shutil.copytree(stopped_server, tmp_path / "postgres")
    made = make_server(tmp_path / "postgres")
    made.start()
    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of `server`."""
    return tmp_path / "postgres" / "data"


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[psutil.Process]:
    """A program that has nothing to do with us, of the account that the servers here run as."""
    account = service_account(tmp_path)
    with subprocess.Popen(["sleep", "120"], user=account.uid if account else None) as process:
        yield psutil.Process(process.pid)
        process.kill()


def ask(server: EmbeddedPostgres, statement: str) -> object:
    engine = sqlalchemy.create_engine(server.url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        result = connection.execute(sqlalchemy.text(statement))
        return result.scalar() if result.returns_rows else None


def postmaster(data: Path) -> psutil.Process:
    found = find_postmaster(data)
    assert found is not None
    return found


def kill_all(data: Path) -> None:
    found = postmaster(data)
    processes = [found, *found.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    while any(is_alive(process) for process in processes):
        time.sleep(0.01)


LOCK_FILES = ("postmaster.pid", ".s.PGSQL.5432.lock")


def record_pid(data: Path, pid: int, names: tuple[str, ...] = LOCK_FILES) -> None:
    """Makes the server's lock files name another process, as after a reboot."""
    for name in names:
        file = data / name
        _, rest = file.read_text().split("\n", 1)
        file.write_text(f"{pid}\n{rest}")


def test_start_stop_start(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(tmp_path / "home" / "postgres")
    assert not server.has_data()
    assert not server.is_running()
    assert not server.stop()
    assert not (tmp_path / "home").exists()

    url = server.start()
    assert server.has_data()
    assert server.is_running()
    first = postmaster(tmp_path / "home" / "postgres" / "data")
    ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert EmbeddedPostgres(tmp_path / "home" / "postgres").start() == url
    assert postmaster(tmp_path / "home" / "postgres" / "data") == first

    assert server.stop()
    assert not server.is_running()
    assert not is_alive(first)
    assert not server.stop()
    assert server.has_data()

    assert server.start() == url
    assert ask(server, "SELECT answer FROM kept") == 42


def test_open_to_nobody_else(server: EmbeddedPostgres, data: Path) -> None:
    assert postmaster(data).net_connections(kind="inet") == []
    for folder in (data.parent, data):
        assert folder.stat().st_mode & 0o777 == 0o700
    for rule in (data / "pg_hba.conf").read_text().splitlines():
        assert not rule.startswith("host") or rule.endswith("reject")


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
def test_other_users_cannot_connect(make_server: MakeServer, name: str) -> None:
    # The folders above are open, so that it is the server's own that closes.
    with open_folder() as parent:
        server = make_server(parent / name)
        url = server.start()
        socket_path = f"{url.query['host']}/.s.PGSQL.5432"
        for user, expected in (((), "connected"), ((str(NOBODY),), "PermissionError")):
            command = [sys.executable, "-W", "ignore", "-c", _CONNECT, socket_path, *user]
            assert subprocess.check_output(command, text=True).strip() == expected
        server.stop()


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter, unlike pytest's."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize(
    "name",
    ["""a '";$HOME`id`\\ ünï{x}%41 """, "comma,colon:" + "x" * 188],
    ids=["hostile", "long"],
)
def test_folders_of_any_name(make_server: MakeServer, tmp_path: Path, name: str) -> None:
    server = make_server(tmp_path / name / "postgres")
    server.start()
    expected = str(tmp_path / name / "postgres" / "data")
    assert ask(server, "SHOW data_directory") == expected
    again = sqlalchemy.make_url(server.url.render_as_string(hide_password=False))
    assert again == server.url


def test_variables_for_other_servers(
    make_server: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "1", "PGHOST": "nowhere.invalid", "PGDATA": "/x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LC_ALL", "xx_YY.UTF-8")
    server = make_server(tmp_path / "postgres")
    server.start()
    assert ask(server, "SHOW server_encoding") == "UTF8"


class TestAfterDeath:
    def test_of_everything(self, server: EmbeddedPostgres, data: Path) -> None:
        ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        kill_all(data)
        assert not server.is_running()
        server.start()
        assert ask(server, "SELECT answer FROM kept") == 42

    def test_while_a_child_is_busy(self, server: EmbeddedPostgres, data: Path) -> None:
        # A process that only computes does not look whether its server is still there.
        busy = "SELECT count(*) FROM generate_series(1, 5000) AS a, generate_series(1, 5000) AS b"
        running = f"SELECT count(*) FROM pg_stat_activity WHERE query = '{busy}'"  # noqa: S608 - ours
        command = [sys.executable, "-c", _RUN, server.url.render_as_string(False), busy]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL):
            while ask(server, running) == 0:
                time.sleep(0.01)
            postmaster(data).kill()
            server.start()
        assert "pre-existing shared memory block" in server.log_path.read_text()
        assert ask(server, "SELECT 1") == 1

    def test_pid_belongs_to_another_program(
        self, server: EmbeddedPostgres, data: Path, sleeper: psutil.Process
    ) -> None:
        kill_all(data)
        record_pid(data, sleeper.pid)
        assert not server.is_running()
        assert not server.stop()
        server.start()
        assert postmaster(data) != sleeper
        assert server.stop()
        assert is_alive(sleeper)

    def test_lock_files_name_two_programs(
        self, server: EmbeddedPostgres, data: Path, sleeper: psutil.Process, tmp_path: Path
    ) -> None:
        kill_all(data)
        record_pid(data, sleeper.pid)
        account = service_account(tmp_path)
        with subprocess.Popen(["sleep", "120"], user=account.uid if account else None) as other:
            record_pid(data, other.pid, names=("postmaster.pid",))
            try:
                server.start()
                assert other.poll() is None
            finally:
                other.kill()
        assert is_alive(sleeper)

    def test_pid_belongs_to_a_zombie(
        self, server: EmbeddedPostgres, data: Path, sleeper: psutil.Process
    ) -> None:
        kill_all(data)
        record_pid(data, sleeper.pid)
        sleeper.kill()
        while sleeper.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert not server.stop()
        server.start()
        assert server.is_running()


_RUN = """
import sys, sqlalchemy
with sqlalchemy.create_engine(sys.argv[1]).connect() as connection:
    connection.execute(sqlalchemy.text(sys.argv[2]))
"""


def test_six_at_once(make_server: MakeServer, tmp_path: Path, data: Path) -> None:
    make_server(tmp_path / "postgres")
    code = (
        "import sys; from pathlib import Path; from storage.embedded import EmbeddedPostgres\n"
        "print(EmbeddedPostgres(Path(sys.argv[1])).start())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "postgres")]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    outputs = {starter.communicate()[0] for starter in starters}
    assert [starter.returncode for starter in starters] == 6 * [0]
    assert len(outputs) == 1
    starts = (tmp_path / "postgres" / "log").read_text().count("starting PostgreSQL")
    assert starts == 1


def test_moved_folder(server: EmbeddedPostgres, make_server: MakeServer, tmp_path: Path) -> None:
    ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    first = postmaster(tmp_path / "postgres" / "data")
    (tmp_path / "postgres").rename(tmp_path / "moved")
    moved = make_server(tmp_path / "moved")
    # It runs on in its new place, and is found there.
    moved.start()
    assert postmaster(tmp_path / "moved" / "data") == first
    assert not server.is_running()
    assert moved.stop()
    assert not is_alive(first)
    moved.start()
    assert ask(moved, "SELECT answer FROM kept") == 42


def test_copied_folder_is_another_database(
    server: EmbeddedPostgres, make_server: MakeServer, tmp_path: Path, data: Path
) -> None:
    ignore = shutil.ignore_patterns(".s.PGSQL.5432")
    shutil.copytree(tmp_path / "postgres", tmp_path / "copy", ignore=ignore)
    copy = make_server(tmp_path / "copy")
    assert not copy.is_running()
    assert not copy.stop()
    assert server.is_running()


def test_interrupted_creation(make_server: MakeServer, tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    code = (
        "import sys; from pathlib import Path; from storage.embedded import EmbeddedPostgres\n"
        "EmbeddedPostgres(Path(sys.argv[1])).start()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)]) as creator:
        while not list(folder.glob("data.new-*/global")):
            assert creator.poll() is None
        for process in [*psutil.Process(creator.pid).children(recursive=True), creator]:
            with suppress(psutil.NoSuchProcess):  # initdb ends by itself without its helper
                process.kill()
    server = make_server(folder)
    assert not server.has_data()
    server.start()
    assert server.is_running()
    assert list(folder.glob("data.new-*")) == []


class TestErrors:
    def test_data_of_another_version(self, make_server: MakeServer, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "PG_VERSION").write_text("17\n")
        with pytest.raises(EmbeddedPostgresError, match="made by Postgres 17"):
            make_server(tmp_path).start()

    def test_something_in_the_way(self, make_server: MakeServer, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "letter.txt").touch()
        with pytest.raises(EmbeddedPostgresError, match="holds no database; move it elsewhere"):
            make_server(tmp_path).start()
        assert (tmp_path / "data" / "letter.txt").exists()

    def test_folder_is_a_file(self, make_server: MakeServer, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(EmbeddedPostgresError, match="cannot be the folder"):
            make_server(tmp_path / "file").start()

    def test_server_does_not_start(
        self, server: EmbeddedPostgres, data: Path, tmp_path: Path
    ) -> None:
        server.stop()
        with (data / "postgresql.conf").open("a") as file:
            file.write("shared_buffers = many\n")
        began = time.monotonic()
        with pytest.raises(EmbeddedPostgresError, match=r"FATAL:.*errors \(see .*log\)"):
            server.start()
        assert time.monotonic() - began < embedded.START_LIMIT_S / 2

    def test_server_does_not_answer(
        self, server: EmbeddedPostgres, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "START_LIMIT_S", 1.0)
        monkeypatch.setattr(embedded, "STOP_LIMIT_S", 1.0)
        stopped = postmaster(data)
        stopped.suspend()
        try:
            with pytest.raises(EmbeddedPostgresError, match=f"process {stopped.pid}.*answered"):
                server.start()
            with pytest.raises(EmbeddedPostgresError, match=f"process {stopped.pid}.*ended"):
                server.stop()
        finally:
            stopped.resume()
        monkeypatch.undo()
        while is_alive(stopped):
            time.sleep(0.01)

    def test_binaries_are_missing(
        self, make_server: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("storage.postgres_programs.POSTGRES_VERSION", "99")
        with pytest.raises(EmbeddedPostgresError, match=r"brings no Postgres 99.*DATABASE_URL"):
            make_server(tmp_path).start()


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
        assert "EmbeddedPostgresError: Postgres refuses to run as root" in result.stderr
        assert "ordinary user, or set DATABASE_URL" in result.stderr

    def test_root_of_a_container(self, tmp_path: Path) -> None:
        # It may not look into processes of other accounts (CAP_SYS_PTRACE).
        for _ in range(2):
            result = self.run_without(19, tmp_path / "postgres", "start(), server.stop()")
            assert result.stderr == ""
            assert result.stdout.endswith(", True)\n")

    def run_without(
        self, capability: int, folder: Path, calls: str
    ) -> subprocess.CompletedProcess[str]:
        code = (
            "import ctypes, os, sys\n"
            f"assert ctypes.CDLL(None).prctl(24, {capability}, 0, 0, 0) == 0\n"
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        )
        inner = (
            "import sys; from pathlib import Path; from storage.embedded import EmbeddedPostgres\n"
            f"server = EmbeddedPostgres(Path(sys.argv[1])); print((server.{calls}))"
        )
        command = [sys.executable, "-c", code, "-c", inner, str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def test_stopping_rolls_back(server: EmbeddedPostgres) -> None:
    engine = sqlalchemy.create_engine(server.url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE unfinished (a int)"))
        assert server.stop()
        connection.invalidate()
    server.start()
    assert ask(server, "SELECT to_regclass('unfinished')") is None


def test_signal_for_our_terminal_spares_it(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(tmp_path / "postgres")
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from storage.embedded import EmbeddedPostgres\n"
        "EmbeddedPostgres(Path(sys.argv[1])).start()\n"
        "os.killpg(0, signal.SIGINT)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "postgres")]
    result = subprocess.run(command, start_new_session=True, capture_output=True, check=False)
    assert result.returncode in (-signal.SIGINT, 1)
    assert server.is_running()
