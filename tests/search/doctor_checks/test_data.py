from pathlib import Path

import pytest

from search.doctor_checks.data import DataFacts, check_data
from tests.planet_data import write_planet_data
from training.errors import ImageError, LabelFileError, SplitError
from training.settings import DataSettings


@pytest.fixture
def settings(tmp_path: Path) -> DataSettings:
    write_planet_data(tmp_path, images=200)
    return DataSettings(
        labels=tmp_path / "train_classes.csv", images=tmp_path / "train-jpg", image_px=16
    )


def test_the_demo_is_not_made() -> None:
    facts, finding = check_data(DataSettings(demo="digits", image_px=32))
    assert facts == DataFacts(images=3000, labels=10, image_px=32)
    assert finding.status == "ok"
    assert finding.found == "the built-in demo: 3,000 images, 10 labels"


def test_data_that_are_there(settings: DataSettings, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    facts, finding = check_data(settings)
    assert (facts.images, facts.image_px) == (200, 16)
    assert finding.status == "ok"
    assert "200 images" in finding.found
    assert "139 train, 32 validation, 29 test" in finding.found
    assert sorted(tmp_path.rglob("*")) == before


def test_a_few_missing_images_are_a_warning(settings: DataSettings) -> None:
    assert settings.images is not None
    next(settings.images.iterdir()).unlink()
    facts, finding = check_data(settings)
    assert facts.images == 199
    assert finding.status == "warning"
    assert "1 of 200 images (0.5 %): 1 missing" in finding.found


def test_many_missing_images_are_an_error(settings: DataSettings) -> None:
    assert settings.images is not None
    for file in list(settings.images.iterdir())[:50]:
        file.unlink()
    with pytest.raises(ImageError, match="--allow-missing"):
        check_data(settings)


def test_data_that_a_search_could_not_begin_with(settings: DataSettings, tmp_path: Path) -> None:
    assert settings.labels is not None
    rows = settings.labels.read_text().splitlines()
    settings.labels.write_text("\n".join(rows[:2]))
    with pytest.raises(SplitError):
        check_data(settings)
    settings.labels.unlink()
    with pytest.raises(LabelFileError, match="no such label file"):
        check_data(settings)
