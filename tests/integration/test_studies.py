"""`canopy studies`: many studies listed, and one removed, renamed, copied or archived."""

from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from tests.integration.in_process import InProcess
from tests.integration.plain_optuna import NAME, make_plain_study
from tests.planet_data import write_planet_data

CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 16}
training: {epochs: 2, batch_size: 16, backbone: tinycnn_8, loss: bce, threads: 1}
search:
  study: planet
  trials: 2
  pruner: {name: none}
  space: {gamma: {low: 0.80, high: 1.00, step: 0.05}}
  enqueue: [{gamma: 0.8}, {gamma: 0.9}]
"""


@pytest.fixture
def user(database_url: str, tmp_path: Path) -> InProcess:
    write_planet_data(tmp_path, images=40)
    (tmp_path / "canopy.yaml").write_text(CONFIG)
    return InProcess(tmp_path, database_url)


def names(user: InProcess, *options: str) -> list[str]:
    return [study["name"] for study in user.json("studies", *options)]


def test_studies_are_listed_copied_archived_and_removed(
    user: InProcess, database: Database, words: SnapshotAssertion
) -> None:
    said = [user.run("studies").stdout]
    user.run("search", "--workers", "1")
    said.append(user.run("studies", "copy", "planet", "copy").stdout)
    [newer, older] = user.json("studies")
    assert (newer["state"], newer["trials"], newer["workers"]) == ("finished", 2, 0)
    assert newer["best"] == user.json("status")["best"]["val_ap"]
    assert newer["gpu_hours"] == older["gpu_hours"] > 0
    assert newer["mib"] > 0
    assert newer["owner"]
    assert user.json("trials", "--study", "copy") == user.json("trials")

    said.append(user.run("studies", "rename", "copy", "second").stdout)
    said.append(user.run("studies", "rm", "second", status=2).stderr)
    said.append(user.run("studies", "rm", "second", "--yes").stdout)
    logs = user.folder / ".canopy" / "logs"
    assert logs.joinpath("planet").exists()
    assert not logs.joinpath("second").exists()
    # What another study has is still there: its epochs need not be trained again.
    user.run("search", "--workers", "1", "--study", "again")
    assert user.json("status", "--study", "again")["epochs"]["trained"] == 0

    said.append(user.run("studies", "archive", "planet").stdout)
    assert (names(user), names(user, "--all")) == (["again"], ["again", "planet"])
    said.append(user.run("studies").stdout.splitlines()[-1])
    said += [
        user.run(*command, status=2).stderr
        for command in (["search", "--trials", "3"], ["pause"], ["confirm"], ["promote", "1"])
    ]
    said.append(user.run("studies", "archive", "--undo", "planet").stdout)
    assert sorted(names(user)) == ["again", "planet"]

    said.append(user.run("studies", "rename", "planet", "\x1b[31m", status=2).stderr)
    said.append(user.run("studies", "rm", "plan", status=2).stderr)
    for name in ("planet", "again"):
        user.run("studies", "rm", name, "--yes")
    assert not logs.joinpath("planet").exists()
    assert user.json("stages", "ls")["known"] == 0
    assert user.json("stages", "ls")["checkpoints"] == []
    assert said == words


def test_a_study_of_plain_optuna_is_listed_and_not_archived(
    user: InProcess, database: Database
) -> None:
    store = StudyStore(database)
    make_plain_study(store)
    store.close()
    [listed] = user.json("studies")
    assert (listed["state"], listed["best"], listed["owner"]) == ("foreign", 1.25, None)
    refused = user.run("studies", "archive", NAME, status=2).stderr
    assert "was not started by Canopy" in refused
    user.run("studies", "rm", NAME, "--yes")
    assert user.json("studies") == []
