from pathlib import Path
from typing import Any

import pytest

from canopy_search.search.config.template import (
    Choices,
    config_text,
    fitting_batch_size,
    fitting_epochs,
    fitting_image_px,
)
from canopy_search.search.study.configuration import load_config
from canopy_search.training.settings import ColumnSettings, DataSettings, SplitSettings

PLAIN = DataSettings(demo="digits", split=SplitSettings(column=None, group=None))


def data(columns: ColumnSettings, **split: Any) -> DataSettings:
    settings = SplitSettings(**({"column": None, "group": None} | split))
    return PLAIN.model_copy(update={"columns": columns, "split": settings})


def choices(
    folder: Path,
    found: DataSettings = PLAIN,
    *,
    name: str = "train.csv",
    exclusive: bool = False,
    weights: str = "none",
) -> Choices:
    settings = {"image_px": 64, "augment": ("hflip",), "allow_missing": True}
    sources = {"labels": folder / name, "images": folder / "images"}
    split = found.split
    return Choices(
        data=found.model_copy(update=settings | sources),
        is_split_by_user=split.column is not None or bool(split.lists),
        draws_validation=split.column is None,
        not_used=("column",) * (split.column is None and not split.lists),
        is_exclusive=exclusive,
        epochs=3,
        batch_size=16,
        study="2024: a study",
        backbones=("tinycnn_8", "no"),
        weights=weights,
    )


@pytest.mark.parametrize(
    "found",
    [
        PLAIN,
        data(
            ColumnSettings(image="Image: Index", tags="no", separator="|"),
            column="fold",
            values={"train": ("0", "1"), "test": ("no",)},
            group="patient",
        ),
        data(ColumnSettings(labels=("1", "true", "a, b"), blank="ignore", uncertain="one")),
        data(ColumnSettings(), group="case").model_copy(
            update={"layout": "coco", "none": "No Finding"}
        ),
        data(ColumnSettings(), test="test_list.txt", train="train_val_list.txt"),
        PLAIN.model_copy(
            update={"bands": (3, 2, 1), "range": (2.0, 4090.0), "background": (255, 255, 255)}
        ),
        PLAIN.model_copy(update={"bands": (4,), "range": (-0.25, 1e-5)}),
    ],
)
def test_what_is_written_is_what_is_read(tmp_path: Path, found: DataSettings) -> None:
    lists = {part: tmp_path / list_ for part, list_ in found.split.lists.items()}
    split = found.split.model_copy(update={str(part): path for part, path in lists.items()})
    found = found.model_copy(update={"split": split})
    path = tmp_path / "canopy.yaml"
    path.write_text(config_text(choices(tmp_path, found, name="a: #b.csv"), tmp_path))

    config = load_config(path).settings

    assert config.data.labels == tmp_path / "a: #b.csv"
    assert config.data.images == tmp_path / "images"
    assert config.data.columns == found.columns
    assert (config.data.layout, config.data.none) == (found.layout, found.none)
    column = None if not split.lists else "auto"
    expected = {"column": split.column or column, "group": split.group or "auto"}
    assert config.data.split == split.model_copy(update=expected)
    assert (config.data.image_px, config.data.augment) == (64, ("hflip",))
    for key in ("bands", "range", "background"):
        assert getattr(config.data, key) == getattr(found, key)
    assert config.data.allow_missing is True
    assert (config.training.epochs, config.training.batch_size) == (3, 16)
    assert config.search.study == "2024: a study"
    assert config.search.space["backbone"] == ["tinycnn_8", "no"]
    assert list(config.search.space) == ["backbone", "loss", "gamma"]


def test_exclusive_labels_are_trained_with_softmax(tmp_path: Path) -> None:
    path = tmp_path / "canopy.yaml"
    path.write_text(config_text(choices(tmp_path, exclusive=True), tmp_path))

    config = load_config(path).settings

    assert config.training.loss == "cross_entropy"
    assert list(config.search.space) == ["backbone", "gamma"]
    assert "loss" not in config.search.enqueue[0]


@pytest.mark.parametrize(
    ("weights", "lr"), [("none", 1e-3), ("imagenet", 3e-4), ("s3://bucket/a.pth", 3e-4)]
)
def test_trained_weights_get_a_lower_learning_rate(tmp_path: Path, weights: str, lr: float) -> None:
    path = tmp_path / "canopy.yaml"
    path.write_text(config_text(choices(tmp_path, weights=weights), tmp_path))
    training = load_config(path).settings.training
    assert (training.weights, training.optimizer.lr) == (weights, lr)


def test_a_weights_file_is_written_relative_to_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "nets" / "a.safetensors"
    text = config_text(choices(tmp_path, weights=str(path)), tmp_path)
    assert "weights: nets/a.safetensors" in text


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
