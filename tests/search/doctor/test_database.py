import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import psutil
import pytest
import sqlalchemy
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.doctor import database as server
from canopy_search.search.doctor.database import check_database
from canopy_search.search.doctor.finding import Finding
from canopy_search.storage.connection.urls import parse_database_url
from canopy_search.storage.database import Database
from canopy_search.storage.errors import EmbeddedPostgresError
from canopy_search.storage.health import ServerHealth
from canopy_search.storage.postgres import programs as postgres_programs
from canopy_search.storage.workspace import Workspace


def look(url: str | sqlalchemy.URL) -> dict[str, Finding]:
    text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    return {finding.check: finding for finding in check_database(Workspace(Path("/nowhere"), text))}


def execute(engine: sqlalchemy.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement))


@contextmanager
def guest(engine: sqlalchemy.Engine) -> Iterator[sqlalchemy.URL]:
    name = f"guest_{uuid4().hex}"
    execute(engine, f"CREATE ROLE {name} LOGIN")
    try:
        yield engine.url.set(username=name)
    finally:
        execute(engine, f"DROP OWNED BY {name}")
        execute(engine, f"DROP ROLE {name}")


def test_a_server_that_is_well(database: Database, database_url: str) -> None:
    findings = look(database_url)
    # Others use the server, too.
    assert re.fullmatch(r"\d+ of \d+ free.*", findings.pop("connections").found)
    assert {finding.status for finding in findings.values()} == {"ok"}
    assert re.search(r"18\.\d+ at postgresql://postgres@", findings["database"].found)
    assert findings["tables"].found == "match this version"


def test_an_empty_database_stays_empty(empty_database_url: str) -> None:
    assert look(empty_database_url)["tables"].found.startswith("none yet")
    engine = sqlalchemy.create_engine(parse_database_url(empty_database_url))
    assert sqlalchemy.inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_database_that_can_only_be_read(database: Database) -> None:
    options = {"options": "-c default_transaction_read_only=on"}
    findings = look(database.url.update_query_dict(options))
    assert findings["database"].status == "error"
    assert "is read-only" in findings["database"].found
    assert "primary" in (findings["database"].remedy or "")
    assert findings["tables"].status == "ok"


def test_a_user_who_may_not_make_tables(empty_database_url: str, words: SnapshotAssertion) -> None:
    engine = sqlalchemy.create_engine(parse_database_url(empty_database_url))
    with guest(engine) as url:
        findings = look(url)
        finding = findings["database"]
        assert finding.status == "error"
        assert findings["tables"].found == "none yet"
        assert finding.remedy is not None
        assert finding.remedy.replace(str(url.username), "USER") == words
        execute(engine, f"GRANT CREATE ON SCHEMA public TO {url.username}")
        assert look(url)["database"].status == "ok"
    engine.dispose()


def test_tables_of_a_newer_version(database: Database, database_url: str) -> None:
    execute(database.engine, "UPDATE canopy_alembic_version SET version_num = 'future'")
    finding = look(database_url)["tables"]
    assert finding.status == "error"
    assert "update canopy-search" in (finding.remedy or "")


def test_tables_of_another_program(empty_database_url: str) -> None:
    engine = sqlalchemy.create_engine(parse_database_url(empty_database_url))
    execute(engine, "CREATE TABLE alembic_version (version_num text)")
    engine.dispose()
    finding = look(empty_database_url)["tables"]
    assert finding.status == "error"
    assert "CREATE SCHEMA canopy" in (finding.remedy or "")


def test_few_connections_are_left(
    monkeypatch: pytest.MonkeyPatch, database_url: str, words: SnapshotAssertion
) -> None:
    health = ServerHealth("postgresql://db", "18.4", False, True, 97, 95, "current")
    monkeypatch.setattr(server, "server_health", lambda _url: health)
    finding = look(database_url)["connections"]
    assert finding.status == "warning"
    assert [finding.found, finding.remedy] == words


class TestEmbedded:
    """The server of the state folder."""

    def test_none_is_made(self, tmp_path: Path, words: SnapshotAssertion) -> None:
        (finding,) = check_database(Workspace(tmp_path / "home", "  "))
        assert finding.status == "ok"
        assert finding.found == words
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("kind", ["nfs4", "cifs", "lustre", "gpfs", "fuse.sshfs"])
    def test_it_is_on_a_network_file_system(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
    ) -> None:
        mounts = [
            SimpleNamespace(mountpoint=place, fstype=found)
            for place, found in (("/", "ext4"), (str(tmp_path), kind), (f"{tmp_path}/ho", "ext4"))
        ]
        monkeypatch.setattr(psutil, "disk_partitions", lambda **_all: mounts)
        findings = {
            finding.check: finding for finding in check_database(Workspace(tmp_path / "home"))
        }
        assert findings["state folder"].status == "warning"
        assert f"({kind})" in findings["state folder"].found

    def test_its_programs_are_missing(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(postgres_programs, "find_spec", lambda _name: None)
        with pytest.raises(EmbeddedPostgresError, match="install it again"):
            list(check_database(Workspace(tmp_path)))

    def test_one_that_is_stopped_is_started_and_left_without_tables(
        self, tmp_path: Path, words: SnapshotAssertion
    ) -> None:
        embedded = Workspace(tmp_path).embedded
        assert embedded is not None
        embedded.start()
        embedded.stop()
        try:
            findings = {finding.check: finding for finding in check_database(Workspace(tmp_path))}
        finally:
            assert embedded.stop()
        assert re.fullmatch(rf"embedded Postgres 18\.\d+ in {tmp_path}", findings["database"].found)
        assert findings["tables"].found == words
