"""A database, a disk, a port or a memory that is not as it should be, through the command."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy

from storage.embedded import EmbeddedPostgres
from storage.postgres_programs import program
from tests.integration.canopy_command import Canopy
from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data
from tests.storage.other_servers import (
    Answer,
    closing_server,
    mysql_server,
    postgres_of_version,
    serving,
    web_server,
)

SECRET = "hunter2"
CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 16}
training: {epochs: 1, backbone: tinycnn_8}
search: {study: planet, space: {gamma: {low: 0.8, high: 1.0, step: 0.1}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planet")
    write_planet_data(folder, images=40)
    (folder / "canopy.yaml").write_text(CONFIG)
    return folder


def url_with(url: str, **options: str) -> str:
    changed = sqlalchemy.make_url(url).update_query_dict(options)
    return changed.render_as_string(hide_password=False)


def execute(url: str, statement: str) -> None:
    engine = sqlalchemy.create_engine(
        sqlalchemy.make_url(url).set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(statement))
    engine.dispose()


@pytest.mark.parametrize("command", ["search", "status"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (web_server, "what answers there is no Postgres server; check host and port"),
        (mysql_server, "what answers there is no Postgres server; check host and port"),
        (closing_server, "is it a Postgres server, and running?"),
        (postgres_of_version("9.6.24"), "is Postgres 9.6.24; 13 or newer is needed"),
    ],
    ids=["HTTP", "MySQL", "hangs up", "old"],
)
def test_a_server_that_is_no_use(folder: Path, command: str, answer: Answer, said: str) -> None:
    with serving(answer) as port:
        user = InProcess(folder, f"postgresql://ann:{SECRET}@127.0.0.1:{port}/canopy")
        process = user.run(command, status=1)
    assert said in process.stderr
    assert len(process.stderr.splitlines()) == 1
    assert SECRET not in process.stderr + process.stdout


@pytest.mark.parametrize(
    ("url", "status", "parts"),
    [
        (f"postgresql://ann:{SECRET}@127.0.0.1:9/canopy", 1, ["port 9", "refused"]),
        (f"postgresql://ann:{SECRET}@no-such-host.invalid/x", 1, ["no host of this name is known"]),
        (f"mysql://ann:{SECRET}@localhost/x", 2, ["must look like postgresql://", "mysql://"]),
        (f"sqlite:///{SECRET}.db", 2, ["must look like postgresql://"]),
        (SECRET, 2, ["must look like postgresql://", "is no URL"]),
    ],
)
def test_a_url_that_leads_nowhere(folder: Path, url: str, status: int, parts: list[str]) -> None:
    for command in ("search", "status"):
        process = InProcess(folder, url).run(command, status=status)
        assert SECRET not in process.stderr + process.stdout
        for part in parts:
            assert part in process.stderr


def test_a_refused_password_is_not_shown(folder: Path, tmp_path: Path) -> None:
    """A server of its own, because the tests' server trusts everybody on its socket."""
    server = EmbeddedPostgres(tmp_path)
    url = server.start()
    try:
        admission = next(tmp_path.rglob("pg_hba.conf"))
        execute(url.render_as_string(), f"CREATE ROLE ann LOGIN PASSWORD '{SECRET}'")
        admission.write_text("local all ann scram-sha-256\nlocal all all trust\n")
        execute(url.render_as_string(), "SELECT pg_reload_conf()")
        ann = url.set(username="ann", password=f"not {SECRET}")
        process = InProcess(folder, ann.render_as_string(hide_password=False)).run(
            "search", status=1
        )
        assert "the password or the user was refused" in process.stderr
        assert SECRET not in process.stderr + process.stdout
    finally:
        server.stop()


def test_a_read_only_database_can_be_looked_at_and_not_searched(
    folder: Path, database_url: str
) -> None:
    standby = url_with(database_url, options="-c default_transaction_read_only=on")
    assert "can only be read" in InProcess(folder, standby).run("status", status=1).stderr

    InProcess(folder, database_url).run("search", "--trials", "1")

    reader = InProcess(folder, standby)
    assert reader.json("status")["trials"]["finished"] == 1
    assert "can only be read" in reader.run("search", "--trials", "2", status=1).stderr


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE canopy_alembic_version SET version_num = '9999'", "made by a newer Canopy"),
        ("UPDATE alembic_version SET version_num = 'v99'", "update canopy-search"),
    ],
)
def test_tables_of_a_newer_version(
    folder: Path, database_url: str, statement: str, said: str
) -> None:
    user = InProcess(folder, database_url)
    user.run("search", "--trials", "1")
    execute(database_url, statement)

    for command in ("search", "status"):
        assert said in user.run(command, status=1).stderr


def test_a_study_of_the_same_name_with_other_data(
    folder: Path, database_url: str, tmp_path: Path
) -> None:
    InProcess(folder, database_url).run("search", "--trials", "1")
    write_planet_data(tmp_path, images=50)
    (tmp_path / "canopy.yaml").write_text(CONFIG)

    said = InProcess(tmp_path, database_url).run("search", status=2).stderr

    assert "study 'planet' began with other data or settings" in said
    assert "data.fingerprint" in said
    assert "--study NAME" in said


def test_no_password_is_kept_in_the_database(folder: Path, database_url: str) -> None:
    """A password that nobody asks for is accepted with any value on the tests' server."""
    url = sqlalchemy.make_url(database_url).set(password=SECRET).render_as_string(False)
    process = InProcess(folder, url).run("search", "--trials", "1")
    assert SECRET not in process.stdout + process.stderr
    plain = sqlalchemy.make_url(database_url).set(drivername="postgresql").render_as_string()
    dumped = subprocess.run(
        [program("pg_dump"), "--dbname", plain], capture_output=True, text=True, check=True
    )
    assert "planet" in dumped.stdout
    assert SECRET not in dumped.stdout


def test_a_port_in_use_is_named(folder: Path, database_url: str) -> None:
    user = InProcess(folder, database_url)
    user.run("search", "--trials", "1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = user.run("dashboard", "--port", port, status=2).stderr
    assert f"port {port} is in use; choose another one with --port" in said


@pytest.mark.parametrize("home", ["canopy.yaml", "canopy.yaml/below"])
def test_a_state_folder_that_cannot_be_one(folder: Path, home: str) -> None:
    user = InProcess(folder, variables={"CANOPY_HOME": home})
    for command in (("search",), ("train", "canopy.yaml")):
        said = user.run(*command, status=1).stderr
        assert str(folder / home) in said
        assert "CANOPY_HOME" in said


def with_own_disk(
    folder: Path,
    script: str,
    *arguments: str,
    home: str = "disk",
    database_url: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs the command in mounts of its own, after `script` made ./disk a disk of its own."""
    (folder / "disk").mkdir(exist_ok=True)
    user = Canopy(folder, database_url, variables={"CANOPY_HOME": home})
    mounts = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    shell = ["sh", "-c", f'{script} && exec "$@"', "sh"]
    return subprocess.run(
        [*mounts, *shell, sys.executable, "-m", "search", *user.words(*arguments)],
        cwd=folder,
        env=user.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_full_disk_is_told_and_the_same_command_works_on_a_larger_one(folder: Path) -> None:
    mount = "mount -t tmpfs -o size={} tmpfs disk"
    full = with_own_disk(folder, mount.format("16k"), "train", "canopy.yaml")
    assert full.returncode == 1
    assert "make room" in full.stderr
    assert "Traceback" not in full.stderr

    for_postgres = with_own_disk(folder, mount.format("9m"), "search")
    assert for_postgres.returncode == 1
    assert "No space left on device; make room" in for_postgres.stderr

    larger = with_own_disk(folder, mount.format("16m"), "train", "canopy.yaml")
    assert larger.returncode == 0, larger.stderr


def test_a_disk_that_cannot_be_written_is_told(folder: Path) -> None:
    mount = "mount -t tmpfs -o ro tmpfs disk"
    for arguments in (("train", "canopy.yaml"), ("search",)):
        refused = with_own_disk(folder, mount, *arguments)
        assert refused.returncode == 1
        assert "set CANOPY_HOME to" in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [("size=64k", "No space left on device"), ("ro", "Read-only file system")],
)
def test_a_disk_of_checkpoints_that_is_full_or_read_only_costs_only_checkpoints(
    folder: Path, database_url: str, options: str, says: str
) -> None:
    config = CONFIG + "\nstages: {checkpoints: disk, budget_gib: 1}\n"
    (folder / "checkpoints.yaml").write_text(config)
    arguments = ("search", "--config", "checkpoints.yaml", "--trials", "2")
    mount = f"mount -t tmpfs -o {options} tmpfs disk"
    searched = with_own_disk(folder, mount, *arguments, home="home", database_url=database_url)
    assert searched.returncode == 0, searched.stderr
    told = f"checkpoints cannot be used now: {says}; the search goes on without"
    assert searched.stdout.count(told) == 1
    assert "2 finished" in searched.stdout
