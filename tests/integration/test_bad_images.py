"""Images that are missing, damaged, changed or taken away, through the command."""

from pathlib import Path

import pytest

from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data
from training.data import cache

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


def test_one_in_a_hundred_is_left_out_and_named(folder: Path) -> None:
    image(folder, 7).unlink()

    output = InProcess(folder).run("train", "canopy.yaml").stdout

    assert "left out: 1 of 100 images (1 %): 1 missing (row 9 'train_7' missing)" in output


def test_more_than_that_is_an_error_that_names_ten_unless_it_is_allowed(folder: Path) -> None:
    for at in range(12):
        image(folder, at).unlink()
    user = InProcess(folder)

    said = user.run("train", "canopy.yaml", status=2).stderr

    assert "12 of 100 images (12 %): 12 missing" in said
    assert said.count("' missing") == 10
    assert "row 11 'train_9' missing, …" in said
    assert "--allow-missing" in said
    assert "data: 88 images" in user.run("train", "canopy.yaml", "--allow-missing").stdout


def test_a_folder_that_is_not_there_is_named(folder: Path) -> None:
    (folder / "train-jpg").rename(folder / "elsewhere")

    said = InProcess(folder).run("train", "canopy.yaml", status=2).stderr

    assert f"{folder / 'train-jpg'}: no such folder of images; check data.images" in said


@pytest.mark.parametrize("event", ["changed", "deleted"])
def test_an_image_that_changes_while_it_is_read_is_named_and_the_next_start_works(
    folder: Path, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = InProcess(folder)
    checked = cache.check_free_space

    def meanwhile(*arguments: object) -> None:
        checked(*arguments)  # type: ignore[arg-type]
        if event == "changed":
            image(folder, 3).write_bytes(image(folder, 4).read_bytes())
        else:
            image(folder, 3).unlink()

    with monkeypatch.context() as patch:
        patch.setattr(cache, "check_free_space", meanwhile)
        said = user.run("train", "canopy.yaml", status=2).stderr
    assert f"{image(folder, 3)}: {'changed' if event == 'changed' else 'cannot be read'}" in said
    assert "start again" in said

    user.run("train", "canopy.yaml")


def test_a_search_is_not_disturbed_by_images_that_go_away_but_its_study_is_kept_apart(
    folder: Path, database_url: str
) -> None:
    """A running search reads the decoded cache; only the next start looks at the images."""
    user = InProcess(folder, database_url)
    user.run("search", "--trials", "1")
    image(folder, 3).unlink()

    said = user.run("search", "--trials", "2", status=2).stderr

    assert "data.fingerprint" in said
    assert "data.left_out: 0 in the study, 1 now" in said
    assert user.json("status")["trials"]["finished"] == 1


def test_a_cache_of_another_version_is_made_anew(folder: Path) -> None:
    user = InProcess(folder)
    user.run("train", "canopy.yaml")
    (meta,) = (folder / ".canopy" / "cache").glob("*/meta.json")
    before = meta.read_text()
    meta.write_text('{"key": "of an older Canopy", "shape": [100, 16, 16, 3]}')

    user.run("train", "canopy.yaml")

    assert meta.read_text() == before
