"""The embedded server, wherever its folder is. Every server here is a real one."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy

from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.postgres.postmaster import is_alive
from tests.storage.forked import in_processes
from tests.storage.postgres.embedded_tools import MakeServer, ask, postmaster


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


def test_keys_of_its_starter_are_not_kept(
    make_server: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "CLEARML_API_SECRET_KEY", "DATABASE_URL", "PGPASSWORD"):
        monkeypatch.setenv(name, "hunter2-hunter2")
    server = make_server(tmp_path / "postgres")
    server.start()
    ask(server, "CREATE TABLE variables (line text)")
    ask(server, "COPY variables FROM PROGRAM 'env'")
    variables = str(ask(server, "SELECT string_agg(line, ' ') FROM variables"))
    assert "hunter2-hunter2" not in variables
    assert "LC_TIME=C" in variables


def test_six_at_once(make_server: MakeServer, tmp_path: Path, data: Path) -> None:
    make_server(tmp_path / "postgres")
    lines = in_processes(
        6,
        "from pathlib import Path\n"
        "from canopy_search.storage.postgres.embedded import EmbeddedPostgres",
        "print(EmbeddedPostgres(Path(sys.argv[1])).start(), flush=True)",
        str(tmp_path / "postgres"),
    )
    assert len(lines) == 6
    assert len(set(lines)) == 1
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


def test_stopping_rolls_back(server: EmbeddedPostgres) -> None:
    engine = sqlalchemy.create_engine(server.url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE unfinished (a int)"))
        assert server.stop()
        connection.invalidate()
    server.start()
    assert ask(server, "SELECT to_regclass('unfinished')") is None


def test_signal_for_our_terminal_spares_it(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.stop()
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from canopy_search.storage.postgres.embedded import EmbeddedPostgres\n"
        "EmbeddedPostgres(Path(sys.argv[1])).start()\n"
        "os.killpg(0, signal.SIGINT)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "postgres")]
    result = subprocess.run(command, start_new_session=True, capture_output=True, check=False)
    assert result.returncode in (-signal.SIGINT, 1)
    assert server.is_running()
