from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.data.dataset import DataFacts, Dataset, open_dataset
from canopy_search.training.data.demo import SCENES
from canopy_search.training.data.images.decoding import decode_image
from canopy_search.training.errors import ImageError, SplitError
from canopy_search.training.settings import DataSettings

PlanetMaker = Callable[..., DataSettings]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def rewritten(settings: DataSettings, change: Callable[[list[str]], list[str]]) -> None:
    """Changes the rows of the label file below its header."""
    assert settings.labels is not None
    header, *rows = settings.labels.read_text().splitlines()
    settings.labels.write_text("\n".join([header, *change(rows)]) + "\n")


def fingerprint(settings: DataSettings, home: Path) -> str:
    return open_dataset(settings, home).fingerprint


def test_pixels_targets_and_names_belong_together(planet: PlanetMaker, home: Path) -> None:
    settings = planet(image_px=20)

    dataset = open_dataset(settings, home)

    assert settings.labels is not None
    assert settings.images is not None
    rows = dict(row.split(",") for row in settings.labels.read_text().splitlines()[1:])
    assert sorted(rows) == list(dataset.image_names)
    assert dataset.pixels.shape == (60, 20, 20, 3)
    assert dataset.image_px == 20
    for at, name in enumerate(dataset.image_names):
        tags = {dataset.labels[label] for label in np.flatnonzero(dataset.targets[at])}
        assert tags == set(rows[name].split())
        content = (settings.images / f"{name}.jpg").read_bytes()
        assert np.array_equal(dataset.pixels[at], decode_image(content, 20))


def test_labels_and_images_are_counted(planet: PlanetMaker, home: Path) -> None:
    dataset = open_dataset(planet(), home)
    counts = dataset.label_counts()
    assert list(counts) == list(dataset.labels)
    assert counts["clear"] == int(dataset.targets[:, dataset.labels.index("clear")].sum())
    assert dataset.facts == DataFacts(60, len(dataset.split.train), len(counts), 16)


def same(one: Dataset, other: Dataset) -> bool:
    return one.fingerprint == other.fingerprint and np.array_equal(
        one.split.validation, other.split.validation
    )


def test_a_moved_folder_and_reordered_rows_change_nothing(planet: PlanetMaker, home: Path) -> None:
    settings = planet()
    before = open_dataset(settings, home)
    assert settings.labels is not None
    elsewhere = settings.labels.parent.rename(home.parent / "elsewhere")
    moved = settings.model_copy(
        update={"labels": elsewhere / "train_classes.csv", "images": elsewhere / "train-jpg"}
    )
    rewritten(moved, lambda rows: rows[::-1])

    assert same(open_dataset(moved, home), before)


def test_image_size_and_split_are_no_part_of_the_fingerprint(
    planet: PlanetMaker, home: Path
) -> None:
    settings = planet()
    other = settings.model_copy(update={"image_px": 8})

    assert fingerprint(other, home) == fingerprint(settings, home)


def test_one_edited_label_changes_the_fingerprint(planet: PlanetMaker, home: Path) -> None:
    settings = planet()
    before = fingerprint(settings, home)

    def toggle_first(rows: list[str]) -> list[str]:
        name, tags = rows[0].split(",")
        return [f"{name},{' '.join(sorted(set(tags.split()) ^ {'road'}))}", *rows[1:]]

    rewritten(settings, toggle_first)

    assert fingerprint(settings, home) != before


def test_a_renamed_label_changes_the_fingerprint(planet: PlanetMaker, home: Path) -> None:
    settings = planet()
    before = fingerprint(settings, home)

    rewritten(settings, lambda rows: [row.replace("haze", "hazy") for row in rows])

    assert fingerprint(settings, home) != before


def test_one_edited_image_changes_fingerprint_and_pixels(planet: PlanetMaker, home: Path) -> None:
    settings = planet()
    before = open_dataset(settings, home)
    assert settings.images is not None
    Image.new("RGB", (40, 40), "red").save(settings.images / "train_0.jpg")

    after = open_dataset(settings, home)

    assert after.fingerprint != before.fingerprint
    changed = (before.pixels != after.pixels).any(axis=(1, 2, 3))
    assert [after.image_names[at] for at in np.flatnonzero(changed)] == ["train_0"]


def test_progress_is_told_once_and_a_second_start_decodes_nothing(
    planet: PlanetMaker, home: Path
) -> None:
    settings = planet()
    first: list[tuple[str, int, int]] = []
    second: list[str] = []

    open_dataset(settings, home, lambda *step: first.append(step))
    open_dataset(settings, home, lambda phase, done, total: second.append(phase))

    assert ("reading images", 60, 60) in first
    assert first[-1] == ("decoding images", 60, 60)
    assert "decoding images" not in second


def test_too_few_images_are_told_before_any_is_read(planet: PlanetMaker, home: Path) -> None:
    steps: list[str] = []

    with pytest.raises(SplitError):
        open_dataset(planet(images=2), home, lambda phase, done, total: steps.append(phase))
    assert steps == []


def test_a_missing_image_of_few_is_an_error_unless_it_is_allowed(
    planet: PlanetMaker, home: Path
) -> None:
    settings = planet()
    assert settings.images is not None
    (settings.images / "train_7.jpg").unlink()

    with pytest.raises(ImageError, match=r" 1 of 60 .*row 9 'train_7' .*allow-missing"):
        open_dataset(settings, home)
    allowed = open_dataset(settings.model_copy(update={"allow_missing": True}), home)
    assert len(allowed.image_names) == 59
    assert any("row 9 'train_7' missing" in warning for warning in allowed.warnings)


def test_one_of_a_hundred_is_left_out_without_asking(planet: PlanetMaker, home: Path) -> None:
    settings = planet(images=100)
    assert settings.images is not None
    (settings.images / "train_7.jpg").write_bytes(b"")

    dataset = open_dataset(settings, home)

    assert [(image.row, image.kind) for image in dataset.skipped] == [(9, "empty")]
    assert len(dataset.pixels) == len(dataset.targets) == len(dataset.image_names) == 99
    parts = (dataset.split.train, dataset.split.validation, dataset.split.test)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(99))


def test_what_is_left_out_is_as_if_it_had_never_been_there(planet: PlanetMaker, home: Path) -> None:
    """Missing, damaged and unreadable images: same data set as without their rows."""
    settings = planet(images=80).model_copy(update={"allow_missing": True})
    assert settings.images is not None
    bad = {"train_3", "train_20", "train_41"}
    (settings.images / "train_3.jpg").unlink()
    (settings.images / "train_20.jpg").write_bytes(b"GIF89a")
    whole = (settings.images / "train_41.jpg").read_bytes()
    (settings.images / "train_41.jpg").write_bytes(whole[: len(whole) // 2])

    spoilt = open_dataset(settings, home)

    rewritten(settings, lambda rows: [row for row in rows if row.split(",")[0] not in bad])
    clean = open_dataset(settings, home)
    assert {image.image_name for image in spoilt.skipped} == bad
    assert same(spoilt, clean)
    assert np.array_equal(spoilt.pixels, clean.pixels)
    report = next((home / "left_out").iterdir()).read_text().splitlines()
    assert report[0] == "row,image_name,kind,detail"
    assert [line.split(",")[1] for line in report[1:]] == ["train_3", "train_20", "train_41"]


def test_no_usable_image_is_an_error_even_if_missing_ones_are_allowed(
    planet: PlanetMaker, home: Path
) -> None:
    settings = planet().model_copy(update={"allow_missing": True})
    assert settings.images is not None
    for path in settings.images.iterdir():
        path.write_bytes(b"")

    with pytest.raises(ImageError, match="no image can be used, 60 of 60"):
        open_dataset(settings, home)


def test_remarks_tell_how_the_file_was_read_and_what_is_odd(
    planet: PlanetMaker, home: Path, words: SnapshotAssertion
) -> None:
    settings = planet()
    assert settings.images is not None

    def with_rare_label(rows: list[str]) -> list[str]:
        return [f"{rows[0]} only_once", *rows[1:]]

    rewritten(settings, with_rare_label)
    for number in range(1, 20):
        copy = settings.images / f"train_{number}.jpg"
        copy.write_bytes((settings.images / "train_0.jpg").read_bytes())

    reading, *odd = open_dataset(settings, home).warnings

    for part in ("60 images", "6 labels", "CSV", "36 / 12 / 12"):
        assert part in reading
    assert sum("only_once" in warning for warning in odd) == 2
    assert [reading, *odd] == words


def test_the_demo_goes_the_same_way(opened_demo: Any) -> None:
    dataset, _, steps = opened_demo

    assert dataset.pixels.shape == (SCENES, 16, 16, 3)
    assert dataset.fingerprint == "3cb22ef8b5fd7f7920b7d4739b9b239e03ec3851bf4cb1628f113a50e922f539"
    assert list(dict.fromkeys(phase for phase, _, _ in steps)) == [
        "making the demo",
        "reading images",
        "decoding images",
    ]
