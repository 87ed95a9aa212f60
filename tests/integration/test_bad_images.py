"""Images that are missing, damaged, changed or taken away, through the command."""

import re
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.data.cache import pixels
from tests.integration.conftest import FINISHED_TRIALS
from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data

CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 16}
training: {epochs: 1, backbone: tinycnn_8}
search: {study: images, space: {gamma: {low: 0.8, high: 1.0, step: 0.1}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_planet_data(tmp_path, images=100)
    (tmp_path / "canopy.yaml").write_text(CONFIG)
    return tmp_path


def image(folder: Path, at: int) -> Path:
    return folder / "train-jpg" / f"train_{at}.jpg"


def test_one_in_a_hundred_is_left_out_and_named(folder: Path, words: SnapshotAssertion) -> None:
    image(folder, 7).unlink()

    output = InProcess(folder).run("train", "canopy.yaml").stdout

    [line] = [line for line in output.splitlines() if "train_7" in line]
    assert "1 of 100" in line
    assert "row 9" in line
    assert re.sub(r"[0-9a-f]{16}", "FINGERPRINT", line) == words


def test_more_than_that_is_an_error_that_names_ten_unless_it_is_allowed(
    folder: Path, words: SnapshotAssertion
) -> None:
    for at in range(12):
        image(folder, at).unlink()
    user = InProcess(folder)

    said = user.run("train", "canopy.yaml", status=2).stderr

    assert "12 of 100" in said
    assert said.count("row ") == 10
    assert "row 11 'train_9'" in said
    assert said == words
    assert "data: 88 images" in user.run("train", "canopy.yaml", "--allow-missing").stdout


def test_a_folder_that_is_not_there_is_named(folder: Path, words: SnapshotAssertion) -> None:
    (folder / "train-jpg").rename(folder / "elsewhere")

    said = InProcess(folder).run("train", "canopy.yaml", status=2).stderr

    assert str(folder / "train-jpg") in said
    assert "data.images" in said
    assert said == words


@pytest.mark.parametrize("event", ["changed", "deleted"])
def test_an_image_that_changes_while_it_is_read_is_named_and_the_next_start_works(
    folder: Path, event: str, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    user = InProcess(folder)
    checked = pixels.check_free_space

    def meanwhile(*arguments: object) -> None:
        checked(*arguments)
        if event == "changed":
            image(folder, 3).write_bytes(image(folder, 4).read_bytes())
        else:
            image(folder, 3).unlink()

    with monkeypatch.context() as patch:
        patch.setattr(pixels, "check_free_space", meanwhile)
        said = user.run("train", "canopy.yaml", status=2).stderr
    assert str(image(folder, 3)) in said
    assert said == words

    user.run("train", "canopy.yaml")


def test_a_study_is_kept_apart_from_data_without_an_image_that_it_had(
    own_finished: InProcess,
) -> None:
    """A running search reads the decoded cache; only the next start looks at the images."""
    image(own_finished.folder, 3).unlink()

    said = own_finished.run("search", "--trials", "9", "--allow-missing", status=2).stderr

    assert "data.fingerprint: " in said
    assert "data.left_out: 0 in" in said
    assert own_finished.json("status")["trials"]["finished"] == FINISHED_TRIALS


def test_a_cache_of_another_version_is_made_anew(folder: Path) -> None:
    user = InProcess(folder)
    user.run("train", "canopy.yaml")
    (meta,) = (folder / ".canopy" / "cache").glob("*/meta.json")
    before = meta.read_text()
    meta.write_text('{"key": "of an older Canopy", "shape": [100, 16, 16, 3]}')

    user.run("train", "canopy.yaml")

    assert meta.read_text() == before
