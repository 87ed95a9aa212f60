"""A folder with 5 % of its images spoilt, searched all the same."""

import csv
from pathlib import Path

import pytest

from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data
from tests.spoilt_images import SPOILT, UNUSUAL, spoil_images

IMAGES = 20 * len(SPOILT)
CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 32}
training: {epochs: 1, batch_size: 32}
search: {study: spoilt, space: {backbone: [tinycnn_8], gamma: {low: 0.8, high: 1.0, step: 0.1}}}
"""


def test_a_search_goes_on_without_spoilt_images_and_reports_them_to_the_image(
    tmp_path: Path, database_url: str
) -> None:
    write_planet_data(tmp_path, images=IMAGES)
    kinds = spoil_images(tmp_path / "train-jpg")
    assert len(kinds) == IMAGES // 20
    (tmp_path / "canopy.yaml").write_text(CONFIG)
    canopy = InProcess(tmp_path, database_url)

    refused = canopy.run("search", "--trials", "2", status=2).stderr
    assert f"{len(kinds)} of {IMAGES} images (5 %)" in refused
    assert "--allow-missing" in refused

    output = canopy.run("search", "--trials", "2", "--allow-missing").stdout
    assert f"skipped: {len(kinds)} of {IMAGES} images (5 %)" in output
    assert f"{IMAGES - len(kinds)} images" in output
    assert canopy.json("status")["trials"]["finished"] == 2

    (report,) = (tmp_path / ".canopy" / "left_out").iterdir()
    assert str(report) in output
    with report.open(newline="") as file:
        reported = {row["image_name"]: row for row in csv.DictReader(file)}
    assert {name: row["kind"] for name, row in reported.items()} == kinds
    rows = (tmp_path / "train_classes.csv").read_text().splitlines()
    for name, row in reported.items():
        assert rows[int(row["row"]) - 1].split(",")[0] == name


@pytest.mark.parametrize("unusual", UNUSUAL)
def test_unusual_images_are_used(tmp_path: Path, unusual: str) -> None:
    """Beside the search above, which counts them: each by itself through the decoder."""
    from canopy_search.training.data.dataset import open_dataset
    from canopy_search.training.settings import DataSettings

    write_planet_data(tmp_path, images=20)
    UNUSUAL[unusual](tmp_path / "train-jpg" / "train_0.jpg")
    settings = DataSettings(
        labels=tmp_path / "train_classes.csv", images=tmp_path / "train-jpg", image_px=16
    )

    dataset = open_dataset(settings, tmp_path / "home")

    assert dataset.skipped == ()
    assert len(dataset.pixels) == 20
