"""A workspace names a state folder and a database, and may be handed to other processes."""

import pickle
from contextlib import closing
from pathlib import Path

import pytest

from canopy_search.filestore.retry import RetryPolicy
from canopy_search.storage.errors import DatabaseUnavailableError, NoDatabaseError
from canopy_search.storage.workspace import Workspace
from tests.storage.postgres.embedded_tools import MakeServer

SECRET = "hunter2-hunter2"


def test_it_travels_and_shows_no_password() -> None:
    workspace = Workspace(Path("home"), f"postgresql://ann:{SECRET}@db/canopy", RetryPolicy(7.0))
    assert pickle.loads(pickle.dumps(workspace)) == workspace  # noqa: S301 - our own bytes
    assert SECRET not in repr(workspace)


def test_reading_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoDatabaseError, match="canopy search"):
        Workspace(tmp_path / "home").open_existing()
    assert not (tmp_path / "home").exists()


@pytest.mark.usefixtures("server")
def test_variables_for_other_servers_do_not_apply_to_the_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGSERVICE": "missing",
        "PGOPTIONS": "-c default_transaction_read_only=on",
        "PGTARGETSESSIONATTRS": "standby",
        "PGSSLMODE": "verify-full",
    }.items():
        monkeypatch.setenv(name, value)
    with closing(Workspace(tmp_path).open()) as database:
        assert database.read_id()


def test_its_retrier_starts_the_embedded_server_again(
    tmp_path: Path, make_server: MakeServer
) -> None:
    workspace, notes = Workspace(tmp_path), list[str]()
    server = make_server(tmp_path / "postgres")
    with closing(workspace.open()) as database:
        first = database.read_id()
        server.stop()
        assert workspace.retrier(notes.append).call(database.read_id) == first
    assert [note.partition(" is ")[2][:4] for note in notes] == ["unav", "back"]


def test_it_waits_for_another_server_as_long_as_its_policy_says(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "postgresql://127.0.0.1:1/canopy", RetryPolicy(0.2))
    with pytest.raises(DatabaseUnavailableError, match="--database-patience"):
        workspace.retrier().call(workspace.open)
