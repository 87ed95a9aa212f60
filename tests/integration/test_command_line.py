"""What the command says when something is wrong: one line, the right status, no traceback."""

import subprocess
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.integration.canopy_command import Canopy
from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data

CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 32}
training: {epochs: 1}
search:
  study: planet
  space: {backbone: [tinycnn_8], gamma: {low: 0.8, high: 1.0, step: 0.1}}
"""
NOWHERE = "postgresql://canopy:hunter2@127.0.0.1:9/canopy"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planet")
    write_planet_data(folder, images=40)
    return folder


def canopy(folder: Path, config: str = CONFIG, url: str = NOWHERE) -> InProcess:
    (folder / "canopy.yaml").write_text(config)
    return InProcess(folder, url)


def assert_clean(refused: subprocess.CompletedProcess[str], *expected: str) -> None:
    assert "Traceback" not in refused.stderr + refused.stdout
    assert "hunter2" not in refused.stderr + refused.stdout
    for text in expected:
        assert text in refused.stderr


def test_a_misspelt_name_names_the_nearest(folder: Path, words: SnapshotAssertion) -> None:
    nearest = {
        "tinycnn_8": ("tinycnn_8", "tinycnn_9"),
        "bce": ("epochs: 1", "loss: bec"),
        "adam": ("epochs: 1", "optimizer: {name: adm}"),
        "tpe": ("study: planet", "sampler: {name: tp}"),
        "median": ("study: planet", "pruner: {name: medain}"),
        "epochs": ("epochs: 1", "epoch: 1"),
    }
    said = []
    for name, (old, new) in nearest.items():
        refused = canopy(folder, CONFIG.replace(old, new)).run("search", status=2)
        assert_clean(refused, repr(name))
        assert len(refused.stderr.splitlines()) == 1
        said.append(refused.stderr)
    assert "".join(said) == words


def test_missing_files_and_folders_are_named(folder: Path, database_url: str) -> None:
    for old, new in (("train_classes.csv", "tags.csv"), ("train-jpg", "pictures")):
        refused = canopy(folder, CONFIG.replace(old, new), database_url).run("search", status=2)
        assert_clean(refused, str(folder / new))


def test_an_unreachable_database_says_which_and_why_without_its_password(folder: Path) -> None:
    refused = canopy(folder).run("search", status=1)
    assert_clean(refused, "127.0.0.1", "refused")
    assert_clean(canopy(folder).run("status", status=1), "127.0.0.1", "refused")


def test_a_study_that_is_not_there_is_named(folder: Path, database_url: str) -> None:
    refused = canopy(folder, url=database_url).run("status", "--study", "planit", status=2)
    assert_clean(refused, "no study 'planit'")


def test_reading_commands_begin_no_database(tmp_path: Path) -> None:
    refused = InProcess(tmp_path).run("status", status=2)
    assert_clean(refused, "canopy search")
    assert not (tmp_path / ".canopy").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["serch"], ["'serch'", "'search'"]),
        (["search", "--trials", "0"], ["--trials", "1"]),
        (["search", "--trails", "3"], ["--trails"]),
    ],
)
def test_a_mistyped_command_is_answered_in_words(
    folder: Path, arguments: list[str], expected: list[str]
) -> None:
    assert_clean(canopy(folder).run(*arguments, status=2), *expected)


def test_debug_shows_the_traceback(folder: Path) -> None:
    refused = Canopy(folder, NOWHERE).run("status", "--debug", status=1)
    assert "Traceback" in refused.stderr


@pytest.mark.parametrize("workers", ["0", "many", "-1", "1.5", "257"])
def test_a_number_of_workers_that_is_none_is_refused(folder: Path, workers: str) -> None:
    refused = canopy(folder).run("search", f"--workers={workers}", status=2)
    assert_clean(refused, f"--workers {workers}: ", "256")


def test_db_url_masks_the_password_and_stop_leaves_other_servers_alone(
    folder: Path, database_url: str
) -> None:
    here = canopy(folder, url=database_url)
    assert here.run("db", "url").stdout.startswith("postgresql+psycopg2://")
    assert here.json("db", "status")["running"] is True
    assert_clean(here.run("db", "stop", status=2), "only its embedded server")
