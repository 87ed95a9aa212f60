from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.doctor.data import check_data
from canopy_search.training.data.dataset import DataFacts
from canopy_search.training.errors import ImageError, LabelFileError, SplitError
from canopy_search.training.settings import DataSettings
from tests.planet_data import write_planet_data


@pytest.fixture
def settings(tmp_path: Path) -> DataSettings:
    write_planet_data(tmp_path, images=200)
    return DataSettings(
        labels=tmp_path / "train_classes.csv", images=tmp_path / "train-jpg", image_px=16
    )


def test_the_demo_is_not_made(words: SnapshotAssertion) -> None:
    facts, finding = check_data(DataSettings(demo="digits", image_px=32), Path())
    assert facts == DataFacts(images=3000, train=3000, labels=10, image_px=32)
    assert finding.status == "ok"
    assert finding.found == words


def test_data_that_are_there(
    settings: DataSettings, tmp_path: Path, words: SnapshotAssertion
) -> None:
    before = sorted(tmp_path.rglob("*"))
    facts, finding = check_data(settings, Path())
    assert (facts.images, facts.image_px) == (200, 16)
    assert finding.status == "ok"
    assert finding.found == words
    for number in ("200 images", "139 train", "32 validation", "29 test"):
        assert number in finding.found
    assert sorted(tmp_path.rglob("*")) == before


def test_a_few_missing_images_are_a_warning(
    settings: DataSettings, words: SnapshotAssertion
) -> None:
    assert settings.images is not None
    min(settings.images.iterdir()).unlink()
    facts, finding = check_data(settings, Path())
    assert facts.images == 199
    assert finding.status == "warning"
    assert "1 of 200" in finding.found
    assert [finding.found, finding.remedy] == words


def test_many_missing_images_are_an_error(settings: DataSettings) -> None:
    assert settings.images is not None
    for file in list(settings.images.iterdir())[:50]:
        file.unlink()
    with pytest.raises(ImageError, match="--allow-missing"):
        check_data(settings, Path())


def test_data_that_a_search_could_not_begin_with(settings: DataSettings, tmp_path: Path) -> None:
    assert settings.labels is not None
    rows = settings.labels.read_text().splitlines()
    settings.labels.write_text("\n".join(rows[:2]))
    with pytest.raises(SplitError):
        check_data(settings, Path())
    settings.labels.unlink()
    with pytest.raises(LabelFileError, match="no such label file"):
        check_data(settings, Path())
