"""`canopy search --dry-run`: it says what the search would, and begins nothing."""

import re
import urllib.error
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workspace import Workspace
from canopy_search.training.device import memory
from canopy_search.training.run import TrainingRun
from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data

CONFIG = """
data: {{labels: train_classes.csv, images: train-jpg, image_px: 32}}
training: {{epochs: 1, batch_size: 16, {training}}}
search:
  study: planet
  trials: 2
  space: {{{space}}}
"""
SPACE = "backbone: [tinycnn_8, tinyresnet_8], loss: [bce, weighted_bce, focal]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dry run")
    write_planet_data(folder, images=60)
    return folder


def user(folder: Path, url: str, *, training: str = "", space: str = SPACE) -> InProcess:
    (folder / "canopy.yaml").write_text(CONFIG.format(training=training, space=space))
    return InProcess(folder, url)


def rows(database: Database) -> dict[str, int]:
    """How many rows every table has."""
    names = sqlalchemy.inspect(database.engine).get_table_names()
    with database.engine.connect() as connection:
        return {
            name: connection.execute(sqlalchemy.text(f"SELECT count(*) FROM {name}")).scalar_one()  # noqa: S608 - our own tables
            for name in names
        }


def test_every_check_has_its_line_and_nothing_is_begun(
    folder: Path, database: Database, database_url: str
) -> None:
    before = rows(database)

    lines = user(folder, database_url).run("search", "--dry-run").stdout.splitlines()

    assert rows(database) == before
    checks = [found for line in lines if (found := re.match(r"(\S.*?) +\d+\.\d s  (.+)", line))]
    assert [check[1] for check in checks] == [
        "configuration", "database", "data", "memory", "study", *["training step"] * 4,
    ]  # fmt: skip
    assert "2 trials over backbone, loss" in checks[0][2]
    assert "60 images can be used" in checks[2][2]
    assert "GiB are free on cpu" in checks[3][2]
    assert "planet is new; 2 to go" in checks[4][2]
    steps = [check[2].partition(";")[0] for check in checks[5:]]
    assert steps == [
        "tinycnn_8 with bce", "tinyresnet_8 with bce",
        "tinycnn_8 with weighted_bce", "tinycnn_8 with focal",
    ]  # fmt: skip
    assert lines[-1].startswith("ready: 2 trials to go; an epoch takes about ")
    assert " with tinycnn_8, " in lines[-1]
    assert lines[-1].endswith(" with tinyresnet_8 (estimated from single steps)")


def test_a_study_that_is_under_way_is_known_and_stays_as_it_is(
    own_finished: InProcess, words: SnapshotAssertion
) -> None:
    with closing(
        Workspace(own_finished.folder / "home", own_finished.database_url).open()
    ) as opened:
        before = rows(opened)

        more = own_finished.run("search", "--dry-run", "--trials", "8").stdout
        enough = own_finished.run("search", "--dry-run").stdout

        assert "\nready: 3 trials to go; " in more
        [known] = [line for line in more.splitlines() if "3 to go" in line]
        assert [re.sub(r" +\d+\.\d s ", " SECONDS ", known), enough.splitlines()[-1]] == words

        config = own_finished.folder / "canopy.yaml"
        config.write_text(config.read_text().replace("weighted_bce, focal_bce]", "weighted_bce]"))
        config.write_text(config.read_text().replace("loss: focal_bce", "loss: bce"))
        refused = own_finished.run("search", "--dry-run", status=2).stderr
        assert refused == own_finished.run("search", status=2).stderr
        assert "space.loss" in refused
        assert rows(opened) == before


def test_a_study_that_others_made_is_refused_as_by_the_search(
    folder: Path, database: Database, database_url: str, words: SnapshotAssertion
) -> None:
    person = user(folder, database_url)
    storage = StudyStore(database).optuna_storage
    optuna.create_study(storage=storage, study_name="planet", direction="minimize")
    refused = person.run("search", "--dry-run", status=2).stderr
    assert refused == person.run("search", status=2).stderr
    assert refused == words


def test_a_grid_is_counted(folder: Path, database_url: str) -> None:
    person = user(folder, database_url, training="backbone: tinycnn_8", space="loss: [bce, focal]")
    text = (folder / "canopy.yaml").read_text().replace("trials: 2", "sampler: {name: grid}")
    (folder / "canopy.yaml").write_text(text)
    assert "ready: 2 trials to go" in person.run("search", "--dry-run").stdout


@pytest.mark.parametrize(
    ("training", "space", "expected"),
    [
        ("lr: 1", SPACE, "training.lr: unknown key"),
        ("", "backbone: [resnet19]", "'resnet19'"),
        ("", "backbone: [tinycnn_8, alexnet]", "'alexnet'"),
        ("", "backbone: [tinycnn_8], weights: [imagenet]", "'tinycnn_8'"),
        ("device: 'cuda:77'", SPACE, "training.device: cuda:77"),
        ("", "gamma: [2]", "search.space.gamma: "),
    ],
)
def test_what_the_search_refuses_it_refuses_in_the_same_words(
    folder: Path, database_url: str, training: str, space: str, expected: str
) -> None:
    person = user(folder, database_url, training=training, space=space)
    refused = person.run("search", "--dry-run", status=2).stderr
    assert expected in refused
    assert refused == person.run("search", status=2).stderr


@pytest.mark.parametrize("name", ["a\x1b[31mb", " ", "x" * 201], ids=["control", "empty", "long"])
def test_a_name_that_no_terminal_can_show_is_no_study(
    folder: Path, database_url: str, name: str, words: SnapshotAssertion
) -> None:
    person = user(folder, database_url)
    said = person.run("search", "--study", name, status=2).stderr
    assert said.startswith("canopy: --study: ")
    assert said.removesuffix("\n").isprintable()
    assert said == words
    assert person.run("search", "--dry-run", "--study", name, status=2).stderr == said


def test_a_network_that_cannot_fit_is_refused_by_every_command(
    folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda _device: 10 * 2**20)
    person = user(folder, database_url, space="batch_size: {low: 1, high: 60}, loss: [bce]")
    said = []
    for command in (["search", "--dry-run"], ["search"], ["train", "canopy.yaml"]):
        refused = person.run(*command, status=2).stderr
        assert "backbone 'resnet18'" in refused
        said.append(re.sub(r"\d+\.?\d* [GM]iB", "SIZE", refused))
    assert said == words


def test_a_batch_is_never_taken_for_larger_than_the_data(folder: Path, database_url: str) -> None:
    person = user(folder, database_url, training="backbone: tinycnn_8", space="gamma: [1]")
    text = (folder / "canopy.yaml").read_text().replace("batch_size: 16", "batch_size: 1000000000")
    (folder / "canopy.yaml").write_text(text)
    printed = person.run("search", "--dry-run").stdout
    to_train_on = re.search(r"train / validation / test (\d+) /", printed)
    assert to_train_on is not None
    assert f"tinycnn_8 with bce; {to_train_on[1]} images took" in printed


def test_weights_that_cannot_be_downloaded_are_not_hidden(
    folder: Path, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*arguments: Any, **options: Any) -> Any:
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr("torch.hub.urlopen", no_network)
    person = InProcess(folder, database_url, {"TORCH_HOME": str(tmp_path)})
    user(folder, database_url, training="weights: imagenet", space="backbone: [resnet18]")
    refused = person.run("search", "--dry-run", status=1).stderr
    assert "resnet18" in refused
    assert "https://" in refused
    assert "no network here" in refused


def test_a_step_that_fails_is_named(
    folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("no kernel image is available\nand more")

    monkeypatch.setattr(TrainingRun, "train_epoch", fail)
    refused = user(folder, database_url).run("search", "--dry-run", status=1).stderr
    assert refused.endswith("RuntimeError: no kernel image is available\n")
    assert refused == words


def test_a_step_that_diverges_is_told_and_refuses_nothing(
    folder: Path, database_url: str, words: SnapshotAssertion
) -> None:
    person = user(
        folder,
        database_url,
        training="optimizer: {name: sgd, lr: 1e30}, backbone: tinycnn_8",
        space="gamma: [1]",
    )
    printed = person.run("search", "--dry-run").stdout
    assert "\nready: 2 trials to go" in printed
    [note] = [line for line in printed.splitlines() if "pruned" in line]
    assert re.sub(r" +\d+\.\d s ", " SECONDS ", note).replace("is inf ", "is nan ") == words
