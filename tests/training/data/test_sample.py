from pathlib import Path

import numpy as np
import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.data.dataset import open_dataset
from canopy_search.training.data.sample import DataSample, open_sample
from canopy_search.training.errors import ImageError, SplitError
from canopy_search.training.settings import DataSettings
from tests.planet_data import write_planet_data

IMAGES, PX = 60, 16


@pytest.fixture
def settings(tmp_path: Path) -> DataSettings:
    write_planet_data(tmp_path, images=IMAGES)
    return DataSettings(
        labels=tmp_path / "train_classes.csv", images=tmp_path / "train-jpg", image_px=PX
    )


def assert_same(sample: DataSample, settings: DataSettings, home: Path) -> None:
    """Every row of the sample is the row of the whole that has its name, in the same part."""
    whole = open_dataset(settings, home)
    rows = {name: at for at, name in enumerate(whole.image_names)}
    at = [rows[name] for name in sample.dataset.image_names]
    assert np.array_equal(sample.dataset.pixels, whole.pixels[at])
    assert np.array_equal(sample.dataset.targets, whole.targets[at])
    assert sample.dataset.digests == tuple(whole.digests[each] for each in at)
    split = sample.dataset.split
    assert {at[each] for each in split.train} <= set(whole.split.train.tolist())
    assert {at[each] for each in split.validation} <= set(whole.split.validation.tolist())
    assert (sample.train, sample.validation) == (
        len(whole.split.train),
        len(whole.split.validation),
    )
    assert sample.images == len(whole.image_names)
    assert sample.cache_bytes == whole.pixels.nbytes


def test_a_sample_of_images_that_nobody_has_decoded(settings: DataSettings, tmp_path: Path) -> None:
    home = tmp_path / "home"
    sample = open_sample(settings, home, 21)
    assert list(home.iterdir()) == []
    assert not sample.is_decoded
    assert len(sample.images_per_s) == 4
    assert min(sample.images_per_s) > 0
    assert len(sample.dataset.split.train) == 14
    assert_same(sample, settings, home)


def test_a_sample_of_decoded_images(settings: DataSettings, tmp_path: Path) -> None:
    home = tmp_path / "home"
    open_dataset(settings, home)
    sample = open_sample(settings, home, 21)
    assert sample.is_decoded
    assert sample.images_per_s == ()
    assert_same(sample, settings, home)


def test_more_than_there_are_is_all_to_train_on(settings: DataSettings, tmp_path: Path) -> None:
    sample = open_sample(settings, tmp_path / "home", 1000)
    assert len(sample.dataset.split.train) == sample.train


def test_damaged_images_are_left_out(settings: DataSettings, tmp_path: Path) -> None:
    images = sorted((tmp_path / "train-jpg").iterdir())
    for path in images[::2]:
        path.write_bytes(b"no image")
    sample = open_sample(settings, tmp_path / "home", 1000)
    names = {f"{name}.jpg" for name in sample.dataset.image_names}
    assert names <= {path.name for path in images[1::2]}
    assert len(sample.dataset.pixels) == len(names)


def test_nothing_to_train_on_is_said(
    settings: DataSettings, tmp_path: Path, words: SnapshotAssertion
) -> None:
    for path in (tmp_path / "train-jpg").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r" 0 of \d+ sampled images") as caught:
        open_sample(settings, tmp_path / "home", 60)
    assert str(caught.value) == words


def test_no_label_in_validation_is_said(
    settings: DataSettings, tmp_path: Path, words: SnapshotAssertion
) -> None:
    rows = [f"train_{at},{'' if at % 3 else 'haze'},{'validation' if at % 3 == 1 else 'train'}"
            for at in range(IMAGES)]  # fmt: skip
    (tmp_path / "train_classes.csv").write_text("\n".join(["image_name,tags,split", *rows]))
    with pytest.raises(SplitError) as caught:
        open_sample(settings, tmp_path / "home", 20)
    assert str(caught.value) == words
