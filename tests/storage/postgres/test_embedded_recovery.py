"""The embedded server after hostile events, and what it says when it cannot run."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import sqlalchemy
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.errors import EmbeddedPostgresError
from canopy_search.storage.postgres import embedded
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.postgres.postmaster import is_alive
from canopy_search.storage.postgres.programs import POSTGRES_VERSION
from canopy_search.storage.postgres.service_account import service_account
from tests.storage.postgres.embedded_tools import MakeServer, ask, kill_all, postmaster, record_pid


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[psutil.Process]:
    """A program that has nothing to do with us, of the account that the servers here run as."""
    account = service_account(tmp_path)
    with subprocess.Popen(["sleep", "600"], user=account.uid if account else None) as process:
        yield psutil.Process(process.pid)
        process.kill()


class TestAfterDeath:
    def test_of_everything(self, server: EmbeddedPostgres, data: Path) -> None:
        ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        kill_all(data)
        assert not server.is_running()
        server.start()
        assert ask(server, "SELECT answer FROM kept") == 42

    def test_while_a_child_lives_on(self, server: EmbeddedPostgres, data: Path) -> None:
        # One that is frozen, or only computes, does not look whether its server is still there.
        engine = sqlalchemy.create_engine(server.url, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection, ThreadPoolExecutor(1) as pool:
            child = psutil.Process(connection.scalar(sqlalchemy.text("SELECT pg_backend_pid()")))
            child.suspend()

            def resume_when_it_was_noticed() -> None:
                while "pre-existing shared memory" not in server.log_path.read_text():
                    time.sleep(0.01)
                child.resume()

            resumed = pool.submit(resume_when_it_was_noticed)
            postmaster(data).kill()
            try:
                server.start()
            finally:
                with suppress(psutil.NoSuchProcess):
                    child.resume()
            resumed.result()
            connection.invalidate()
        assert not is_alive(child)
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
        with subprocess.Popen(["sleep", "600"], user=account.uid if account else None) as other:
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


def test_interrupted_creation(make_server: MakeServer, tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    code = (
        "import sys; from pathlib import Path\n"
        "from canopy_search.storage.postgres.embedded import EmbeddedPostgres\n"
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
    def test_data_of_another_version(
        self, make_server: MakeServer, tmp_path: Path, words: SnapshotAssertion
    ) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "PG_VERSION").write_text("17\n")
        with pytest.raises(EmbeddedPostgresError, match="17") as error:
            make_server(tmp_path).start()
        assert str(error.value).replace(f"{POSTGRES_VERSION};", "NEWER;") == words

    def test_a_damaged_version(self, make_server: MakeServer, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "PG_VERSION").write_bytes(b"\xff\n")
        with pytest.raises(EmbeddedPostgresError, match="was created by Postgres"):
            make_server(tmp_path).start()

    def test_something_in_the_way(
        self, make_server: MakeServer, tmp_path: Path, words: SnapshotAssertion
    ) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "letter.txt").touch()
        with pytest.raises(EmbeddedPostgresError) as error:
            make_server(tmp_path).start()
        assert str(error.value) == words
        assert (tmp_path / "data" / "letter.txt").exists()

    def test_folder_is_a_file(self, tmp_path: Path, words: SnapshotAssertion) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(EmbeddedPostgresError) as error:
            EmbeddedPostgres(tmp_path / "file").start()
        assert str(error.value) == words

    def test_server_does_not_start(
        self,
        server: EmbeddedPostgres,
        data: Path,
        monkeypatch: pytest.MonkeyPatch,
        words: SnapshotAssertion,
    ) -> None:
        server.stop()
        with (data / "postgresql.conf").open("a") as file:
            file.write("shared_buffers = many\n")
        monkeypatch.setattr(embedded, "START_LIMIT_S", 1e6)  # it is not waited for
        with pytest.raises(EmbeddedPostgresError, match="FATAL: ") as error:
            server.start()
        assert str(server.log_path) in str(error.value)
        assert str(error.value) == words

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
            with pytest.raises(EmbeddedPostgresError, match=f"process {stopped.pid}.*stopped"):
                server.stop()
        finally:
            stopped.resume()
        monkeypatch.undo()
        while is_alive(stopped):
            time.sleep(0.01)

    def test_binaries_are_missing(
        self,
        make_server: MakeServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        words: SnapshotAssertion,
    ) -> None:
        monkeypatch.setattr("canopy_search.storage.postgres.programs.POSTGRES_VERSION", "99")
        with pytest.raises(EmbeddedPostgresError, match="99") as error:
            make_server(tmp_path).start()
        assert str(error.value) == words
