"""A database, a disk, a port or a memory that is not as it should be, through the command."""

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.postgres.programs import program
from tests.databases import within
from tests.integration.conftest import FINISHED_TRIALS
from tests.integration.in_process import InProcess
from tests.integration.own_disk import Ended, OnDisk, on_own_disks
from tests.planet_data import write_planet_data
from tests.shared_servers import execute
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


@pytest.mark.parametrize(
    "answer",
    [web_server, mysql_server, closing_server, postgres_of_version("9.6.24")],
    ids=["HTTP", "MySQL", "hangs up", "old"],
)
def test_a_server_that_is_no_use(folder: Path, answer: Answer, words: SnapshotAssertion) -> None:
    with serving(answer) as port:
        user = InProcess(folder, f"postgresql://ann:{SECRET}@127.0.0.1:{port}/canopy")
        processes = [user.run(command, status=1) for command in ("search", "status")]
    said = [process.stderr.replace(str(port), "PORT") for process in processes]
    assert said[0] == words
    assert said[1] == said[0]
    for process in processes:
        assert len(process.stderr.splitlines()) == 1
        assert SECRET not in process.stderr + process.stdout


@pytest.mark.parametrize(
    ("url", "status"),
    [
        (f"postgresql://ann:{SECRET}@127.0.0.1:9/canopy", 1),
        (f"postgresql://ann:{SECRET}@no-such-host.invalid/x", 1),
        (f"mysql://ann:{SECRET}@localhost/x", 2),
        (f"sqlite:///{SECRET}.db", 2),
        (SECRET, 2),
    ],
    ids=["refused", "unknown host", "MySQL", "SQLite", "no URL"],
)
def test_a_url_that_leads_nowhere(
    folder: Path, url: str, status: int, words: SnapshotAssertion
) -> None:
    processes = [InProcess(folder, url).run(each, status=status) for each in ("search", "status")]
    for process in processes:
        assert SECRET not in process.stderr + process.stdout
    assert processes[0].stderr == words
    assert processes[1].stderr == processes[0].stderr


def test_a_refused_password_is_not_shown(
    folder: Path, tmp_path: Path, words: SnapshotAssertion
) -> None:
    """A server of its own, because the tests' server trusts everybody on its socket."""
    server = EmbeddedPostgres(tmp_path)
    url = server.start()
    try:
        admission = next(tmp_path.rglob("pg_hba.conf"))
        execute(url, f"CREATE ROLE ann LOGIN PASSWORD '{SECRET}'")
        admission.write_text("local all ann scram-sha-256\nlocal all all trust\n")
        execute(url, "SELECT pg_reload_conf()")
        ann = url.set(username="ann", password=f"not {SECRET}")
        process = InProcess(folder, ann.render_as_string(hide_password=False)).run(
            "search", status=1
        )
        assert re.sub(r"on \S+, port", "on SOCKET, port", process.stderr) == words
        assert SECRET not in process.stderr + process.stdout
    finally:
        server.stop()


def test_a_read_only_database_can_be_looked_at_and_not_searched(
    folder: Path, empty_database_url: str, finished: InProcess, words: SnapshotAssertion
) -> None:
    options = "-c default_transaction_read_only=on"
    empty = InProcess(folder, url_with(empty_database_url, options=options))
    refused = [empty.run("status", status=2).stderr]

    reader = InProcess(finished.folder, url_with(str(finished.database_url), options=options))
    assert reader.json("status")["trials"]["finished"] == FINISHED_TRIALS
    refused.append(reader.run("search", "--trials", "9", status=1).stderr)
    assert [without_place(text) for text in refused] == words


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE canopy_alembic_version SET version_num = '9999'",
        "UPDATE alembic_version SET version_num = 'v99'",
    ],
    ids=["ours", "Optuna's"],
)
def test_tables_of_a_newer_version(
    own_finished: InProcess, statement: str, words: SnapshotAssertion
) -> None:
    execute(str(own_finished.database_url), statement)

    said = [own_finished.run(command, status=1).stderr for command in ("search", "status")]
    assert without_place(said[0]) == words
    assert said[1] == said[0]


def without_place(text: str) -> str:
    """The text without the name of the database, and without the revision of its tables."""
    return re.sub(
        r"canopy_[0-9a-f]{32}", "DATABASE", re.sub(r"supports \d+", "supports REVISION", text)
    )


def test_a_study_of_the_same_name_with_other_data(finished: InProcess, tmp_path: Path) -> None:
    write_planet_data(tmp_path, images=50)
    (tmp_path / "canopy.yaml").write_text((finished.folder / "canopy.yaml").read_text())

    said = InProcess(tmp_path, finished.database_url).run("search", status=2).stderr

    assert "'planet'" in said
    assert "data.fingerprint: " in said
    assert "--study NAME" in said


def test_no_password_is_kept_in_the_database(own_finished: InProcess) -> None:
    """A password that nobody asks for is accepted with any value on the tests' server."""
    plain = sqlalchemy.make_url(str(own_finished.database_url)).set(drivername="postgresql")
    url = plain.set(password=SECRET).render_as_string(hide_password=False)
    user = InProcess(own_finished.folder, url)
    process = user.run("search", "--trials", str(FINISHED_TRIALS + 1))
    assert SECRET not in process.stdout + process.stderr
    dumped = subprocess.run(
        [program("pg_dump"), "--dbname", plain.render_as_string()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "planet" in dumped.stdout
    assert SECRET not in dumped.stdout


def test_a_port_in_use_is_named(finished: InProcess, words: SnapshotAssertion) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = finished.run("dashboard", "--port", port, status=2).stderr
    assert said.count(port) == 1
    assert said.replace(port, "PORT") == words


@pytest.mark.parametrize("home", ["canopy.yaml", "canopy.yaml/below", "itself", "x" * 300])
@pytest.mark.parametrize(
    "command",
    [
        *("search", "train canopy.yaml", "worker", "status", "trials", "pause", "dashboard"),
        *("stages ls", "stages gc", "db stop", "db url", "db upgrade"),
    ],
)
def test_a_state_folder_that_cannot_be_one(folder: Path, home: str, command: str) -> None:
    itself = folder / "itself"
    itself.unlink(missing_ok=True)
    itself.symlink_to("itself")
    user = InProcess(folder, variables={"CANOPY_HOME": home})
    (said,) = user.run(*command.split(), status=1).stderr.splitlines()
    assert str(folder / home) in said
    assert "CANOPY_HOME" in said


def test_the_state_of_a_server_in_a_file_says_why_not(folder: Path) -> None:
    user = InProcess(folder, variables={"CANOPY_HOME": "canopy.yaml"})
    said = user.run("db", "status").stdout
    assert re.search(r"^running +False$", said, re.MULTILINE)
    assert f"{folder / 'canopy.yaml'} is not a folder" in said


@pytest.fixture(scope="module")
def on_disks(folder: Path, postgres_url: str) -> Iterator[dict[str, Ended]]:
    """What became of commands whose disk is small or cannot be written, all in one process."""
    config = CONFIG + "\nstages: {checkpoints: disk, budget_gib: 1}\n"
    (folder / "checkpoints.yaml").write_text(config)
    name = f"canopy_{uuid4().hex}"
    execute(postgres_url, f"CREATE DATABASE {name}")
    url = within(postgres_url, name)
    searching = ("search", "--config", "checkpoints.yaml", "--trials", "2", "--study")
    commands = {
        "train on a full one": OnDisk("size=16k", ("train", "canopy.yaml")),
        "search on a full one": OnDisk("size=9m", ("search",)),
        "train on a larger one": OnDisk("size=300m", ("train", "canopy.yaml")),
        "train on a read-only one": OnDisk("ro", ("train", "canopy.yaml")),
        "search on a read-only one": OnDisk("ro", ("search",)),
        "No space left on device": OnDisk("size=64k", (*searching, "full"), "home", url),
        "Read-only file system": OnDisk("ro", (*searching, "read-only"), "home", url),
    }
    yield dict(zip(commands, on_own_disks(folder, list(commands.values())), strict=True))
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def test_a_full_disk_is_told_and_the_same_command_works_on_a_larger_one(
    on_disks: dict[str, Ended],
) -> None:
    full = on_disks["train on a full one"]
    assert full.returncode == 1
    assert "make room" in full.stderr

    for_postgres = on_disks["search on a full one"]
    assert for_postgres.returncode == 1
    assert "No space left on device; make room" in for_postgres.stderr

    larger = on_disks["train on a larger one"]
    assert larger.returncode == 0, larger.stderr


def test_a_disk_that_cannot_be_written_is_told(on_disks: dict[str, Ended]) -> None:
    for command in ("train", "search"):
        refused = on_disks[f"{command} on a read-only one"]
        assert refused.returncode == 1
        assert "set CANOPY_HOME to" in refused.stderr


@pytest.mark.parametrize("reason", ["No space left on device", "Read-only file system"])
def test_a_disk_of_checkpoints_that_is_full_or_read_only_costs_only_checkpoints(
    on_disks: dict[str, Ended], reason: str
) -> None:
    searched = on_disks[reason]
    assert searched.returncode == 0, searched.stderr
    [told] = [line for line in searched.stdout.splitlines() if reason in line]
    assert "checkpoints" in told
    assert "2 finished" in searched.stdout
