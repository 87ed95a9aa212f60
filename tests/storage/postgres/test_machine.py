"""Two machines on one folder: one server, whatever the other machine sees of it."""

import json
import shutil
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.errors import EmbeddedPostgresError
from canopy_search.storage.postgres import machine
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.postgres.machine import Machine, claimed, this_machine
from canopy_search.storage.workspace import Workspace
from tests.storage.postgres.embedded_tools import MakeServer, ask, kill_all, postmaster
from tests.storage.postgres.other_machine import OtherMachine, needs_namespaces

HERE = Machine("here", "boot 1", "processes 1")


def refusal(server: EmbeddedPostgres) -> str:
    with pytest.raises(EmbeddedPostgresError) as caught:
        server.start()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("there", "is_seen", "is_foreign"),
    [
        (Machine("renamed", "boot 1", "processes 1"), True, False),
        (Machine("container", "boot 1", "processes 2"), False, False),
        (Machine("here", "boot 2", "processes 1"), False, False),
        (Machine("there", "boot 2", "processes 1"), False, True),
    ],
)
def test_what_is_another_machine(there: Machine, is_seen: bool, is_foreign: bool) -> None:
    assert (HERE.sees(there), HERE.is_foreign(there)) == (is_seen, is_foreign)


@needs_namespaces
class TestSecondMachine:
    @pytest.mark.parametrize("sees_socket", [False, True])
    def test_it_is_refused_while_the_first_one_works(
        self,
        server: EmbeddedPostgres,
        data: Path,
        tmp_path: Path,
        sees_socket: bool,
        words: SnapshotAssertion,
    ) -> None:
        first = postmaster(data)
        other = OtherMachine("node-b", tmp_path / "boot", sees_socket=sees_socket)
        said = other.answer(server.folder)
        assert said.replace(this_machine().host, "HERE").replace(str(first.pid), "PID") == words
        assert postmaster(data) == first
        assert ask(server, "SELECT 1") == 1

    def test_it_is_refused_here_while_the_other_one_works(
        self,
        make_server: MakeServer,
        stopped_server: Path,
        tmp_path: Path,
        words: SnapshotAssertion,
    ) -> None:
        folder = shutil.copytree(stopped_server, tmp_path / "postgres")
        machine, answer = OtherMachine("node-b", tmp_path / "boot").begin(folder)
        server = EmbeddedPostgres(folder)
        with machine:
            assert answer == "started"
            pid = (folder / "data" / "postmaster.pid").read_text().split()[0]
            said = refusal(server)
            with pytest.raises(EmbeddedPostgresError, match="node-b"):
                server.stop()
            assert Workspace(tmp_path).describe()["reason"] == said
            assert said.replace(f"process {pid}", "process PID") == words
            machine.communicate()
        # It was turned off, so nobody stopped the server. The user knows, and says so.
        assert refusal(server) == said
        (folder / "server.json").unlink()
        make_server(folder).start()
        assert ask(server, "SELECT 1") == 1

    def test_a_stopped_server_may_be_started_anywhere(
        self, server: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        server.stop()
        assert OtherMachine("node-b", tmp_path / "boot").answer(server.folder) == "started"
        (server.folder / "server.json").unlink()

    def test_this_machine_after_it_crashed_and_booted(
        self, server: EmbeddedPostgres, data: Path, tmp_path: Path
    ) -> None:
        ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        kill_all(data)
        (data / ".s.PGSQL.5432").unlink()
        rebooted = OtherMachine(this_machine().host, tmp_path / "boot")
        assert rebooted.answer(server.folder) == "started"
        server.start()
        assert ask(server, "SELECT answer FROM kept") == 42

    @pytest.mark.parametrize("is_container", [True, False])
    def test_the_lock_tells_where_neither_name_nor_boot_do(
        self,
        server: EmbeddedPostgres,
        data: Path,
        tmp_path: Path,
        is_container: bool,
        words: SnapshotAssertion,
    ) -> None:
        first, here = postmaster(data), this_machine().host
        boot = None if is_container else tmp_path / "boot"
        said = OtherMachine("container" if is_container else here, boot).answer(server.folder)
        assert said.replace(here, "HERE").replace(str(first.pid), "PID") == words
        assert postmaster(data) == first
        assert ask(server, "SELECT 1") == 1

    def test_a_container_after_another_one_was_killed(
        self, server: EmbeddedPostgres, data: Path
    ) -> None:
        kill_all(data)
        (data / ".s.PGSQL.5432").unlink()
        assert OtherMachine("container", None).answer(server.folder) == "started"


def test_a_damaged_record_is_replaced(server: EmbeddedPostgres) -> None:
    server.stop()
    record = server.folder / "server.json"
    for text in ("", "{}", '"vm"', '{"host": "vm"}', "[" * 99_999):
        record.write_text(text)
        with claimed(server.folder):
            assert Machine(**json.loads(record.read_text())) == this_machine()


def test_without_locks_the_record_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_file: int, _kind: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(machine.fcntl, "flock", no_locks)
    with claimed(tmp_path):
        pass
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "postmaster.pid").write_text("1\n")
    there = {"host": "there", "boot": "another", "processes": ""}
    (tmp_path / "server.json").write_text(json.dumps(there))
    with pytest.raises(EmbeddedPostgresError, match="there"), claimed(tmp_path):
        pass
