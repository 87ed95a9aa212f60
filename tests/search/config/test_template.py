from pathlib import Path

import pytest

from canopy_search.search.config.template import (
    Choices,
    config_text,
    fitting_batch_size,
    fitting_epochs,
    fitting_image_px,
)
from canopy_search.search.study.configuration import load_config
from canopy_search.training.data.labels.columns import Guess
from canopy_search.training.settings import ColumnSettings, SplitSettings

PLAIN = Guess(ColumnSettings(), None, None)


def choices(folder: Path, guess: Guess = PLAIN, *, name: str = "train.csv") -> Choices:
    return Choices(
        labels=folder / name,
        images=folder / "images",
        guess=guess,
        image_px=64,
        augment=("hflip",),
        allow_missing=True,
        epochs=3,
        batch_size=16,
        study="2024: a study",
        backbones=("tinycnn_8", "no"),
    )


@pytest.mark.parametrize(
    "guess",
    [
        PLAIN,
        Guess(ColumnSettings(image="Image: Index", tags="no", separator="|"), "fold", "patient"),
        Guess(ColumnSettings(labels=("1", "true", "a, b")), None, "case"),
    ],
)
def test_what_is_written_is_what_is_read(tmp_path: Path, guess: Guess) -> None:
    path = tmp_path / "canopy.yaml"
    path.write_text(config_text(choices(tmp_path, guess, name="a: #b.csv"), tmp_path))

    config = load_config(path).settings

    assert config.data.labels == tmp_path / "a: #b.csv"
    assert config.data.images == tmp_path / "images"
    assert config.data.columns == guess.columns
    expected = SplitSettings(column=guess.split or "auto", group=guess.group or "auto")
    assert config.data.split == expected
    assert (config.data.image_px, config.data.augment) == (64, ("hflip",))
    assert config.data.allow_missing is True
    assert (config.training.epochs, config.training.batch_size) == (3, 16)
    assert config.search.study == "2024: a study"
    assert config.search.space["backbone"] == ["tinycnn_8", "no"]
    assert list(config.search.space) == ["backbone", "loss", "gamma"]


def test_paths_are_relative_unless_they_are_far_away(tmp_path: Path) -> None:
    near = config_text(choices(tmp_path / "data"), tmp_path)
    far = config_text(choices(Path("/elsewhere/data")), tmp_path / "a" / "b" / "c" / "d")

    assert "labels: data/train.csv" in near
    assert "labels: /elsewhere/data/train.csv" in far


@pytest.mark.parametrize(
    ("median_px", "has_gpu", "expected"),
    [(1, True, 32), (50, True, 48), (5000, True, 224), (5000, False, 64), (0, False, 32)],
)
def test_the_image_size_fits_images_and_machine(
    median_px: int, has_gpu: bool, expected: int
) -> None:
    assert fitting_image_px(median_px, has_gpu=has_gpu) == expected


def test_small_sets_get_small_batches_and_more_epochs() -> None:
    assert [fitting_batch_size(n) for n in (10, 200, 640, 50_000)] == [8, 16, 64, 64]
    assert [fitting_epochs(n) for n in (100, 1000, 5000)] == [20, 12, 8]
