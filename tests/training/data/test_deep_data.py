"""Data sets of more than 8 bits, of several bands, and with transparency."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.data.dataset import Dataset, dataset_fingerprint, open_dataset
from canopy_search.training.data.images.conversion import Conversion
from canopy_search.training.data.images.decoding import DECODING_RULE
from canopy_search.training.data.labels.label_file import read_label_file
from canopy_search.training.data.sample import open_sample
from canopy_search.training.errors import ImageError
from canopy_search.training.settings import DataSettings
from tests.bucket import Bucket
from tests.training.data.images.test_stored import tiff

IMAGES = 20
PX = 8


def grey(at: int) -> NDArray[np.uint16]:
    """Twelve bits in sixteen."""
    return np.random.default_rng(at).integers(200, 4000, (PX, PX)).astype(np.uint16)


def written(folder: Path, write: Callable[[Path, int], None], **settings: Any) -> DataSettings:
    """Writes images and labels and returns their settings."""
    images = folder / "images"
    images.mkdir(parents=True)
    for at in range(IMAGES):
        write(images / f"p{at}", at)
    labels = folder / "labels.csv"
    rows = (f"p{at},{'a' if at % 2 else 'b'}\n" for at in range(IMAGES))
    labels.write_text("image_name,tags\n" + "".join(rows))
    return DataSettings(labels=labels, images=images, image_px=PX, **settings)


def write_grey(path: Path, at: int) -> None:
    Image.fromarray(grey(at)).save(path.with_suffix(".png"))


def write_bands(path: Path, at: int) -> None:
    values = np.dstack([grey(at), grey(at + 1), grey(at + 2), grey(at + 3)])
    path.with_suffix(".tif").write_bytes(tiff(values))


def write_transparent(path: Path, at: int) -> None:
    values = np.zeros((PX, PX, 4), np.uint8) + np.uint8(at)
    values[..., 3] = 255
    values[0, 0, 3] = 0 if at == 13 else 255
    Image.fromarray(values).save(path.with_suffix(".png"))


def write_rgb(path: Path, at: int) -> None:
    Image.fromarray(np.full((PX, PX, 3), at, np.uint8)).save(path.with_suffix(".png"))


def decisions(home: Path) -> Sequence[Path]:
    return sorted((home / "cache").glob("*.json"))


def test_twelve_bits_get_one_range_for_all_images(tmp_path: Path) -> None:
    settings, home = written(tmp_path, write_grey), tmp_path / "home"

    dataset = open_dataset(settings, home)

    assert isinstance(dataset.conversion.range, tuple)
    low, high = dataset.conversion.range
    assert 200 <= low < 240
    assert 3960 < high < 4000
    at = dataset.image_names.index("p7")
    expected = np.clip((grey(7).astype(float) - low) / (high - low), 0, 1) * 255
    assert np.abs(dataset.pixels[at, ..., 0] - expected).max() <= 0.5 + 1e-3


def test_the_range_is_decided_once_and_equal_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, home = written(tmp_path, write_grey), tmp_path / "home"
    first = open_dataset(settings, home)
    assert len(decisions(home)) == 1

    elsewhere = open_dataset(settings, tmp_path / "another home")
    written_out = open_dataset(
        settings.model_copy(update={"range": first.conversion.range}), tmp_path / "a third home"
    )
    monkeypatch.setattr("canopy_search.training.data.cache.reading._decided", None)
    again = open_dataset(settings, home)
    for other in (again, elsewhere, written_out):
        assert other.fingerprint == first.fingerprint
        assert other.conversion == first.conversion
        assert np.array_equal(other.pixels, first.pixels)


def test_a_lost_or_damaged_decision_is_made_again(tmp_path: Path) -> None:
    settings, home = written(tmp_path, write_grey), tmp_path / "home"
    first = open_dataset(settings, home)
    for content in (b"", b"[]", b'{"range": 5, "other": 1}', b"\xff"):
        decisions(home)[0].write_bytes(content)
        assert open_dataset(settings, home).fingerprint == first.fingerprint
    shutil.rmtree(home / "cache")
    assert np.array_equal(open_dataset(settings, home).pixels, first.pixels)


def fingerprint_of_bytes(settings: DataSettings, dataset: Dataset) -> str:
    """The fingerprint before there were bands, ranges and backgrounds."""
    assert settings.labels is not None
    return dataset_fingerprint(read_label_file(settings.labels, settings), dataset.digests)


@pytest.mark.parametrize("write", [write_rgb, lambda path, _: write_transparent(path, 1)])
def test_usual_images_keep_their_fingerprint(
    tmp_path: Path, write: Callable[[Path, int], None]
) -> None:
    settings, home = written(tmp_path, write), tmp_path / "home"
    dataset = open_dataset(settings, home)
    assert dataset.fingerprint == fingerprint_of_bytes(settings, dataset)
    assert dataset.conversion == Conversion()
    assert not decisions(home)
    before = json.dumps(["canopy pixels 2", DECODING_RULE, PX, *dataset.digests])
    assert (home / "cache" / hashlib.sha256(before.encode()).hexdigest()).is_dir()


def test_sixteen_bits_in_use_keep_their_fingerprint_and_pixels(tmp_path: Path) -> None:
    def write(path: Path, at: int) -> None:
        Image.fromarray(grey(at) * 16).save(path.with_suffix(".png"))

    settings = written(tmp_path, write)
    dataset = open_dataset(settings, tmp_path / "home")
    assert dataset.fingerprint == fingerprint_of_bytes(settings, dataset)
    at = dataset.image_names.index("p3")
    assert np.array_equal(dataset.pixels[at, ..., 1], grey(3) * 16 >> 8)


def test_bands_range_and_background_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    settings, home = written(tmp_path, write_bands, bands=(3, 2, 1)), tmp_path / "home"
    changes: list[dict[str, Any]] = [{}, {"bands": (1,)}, {"range": (0.0, 4095.0)}]
    found = {
        open_dataset(settings.model_copy(update=change), home).fingerprint for change in changes
    }
    assert len(found) == 3


def test_one_transparent_image_decides_for_white(tmp_path: Path) -> None:
    settings, home = written(tmp_path, write_transparent), tmp_path / "home"
    dropped = open_dataset(settings.model_copy(update={"background": "none"}), home)
    dataset = open_dataset(settings, home)
    assert dataset.conversion.background == (255, 255, 255)
    at = dataset.image_names.index("p13")
    assert dataset.pixels[at, 0, 0].tolist() == [255] * 3
    assert dataset.pixels[at, 1, 1].tolist() == [13] * 3
    assert dropped.pixels[at, 0, 0].tolist() == [13] * 3
    assert dropped.fingerprint == fingerprint_of_bytes(settings, dropped) != dataset.fingerprint


def test_a_deep_set_in_a_bucket_is_the_same(tmp_path: Path, bucket: Bucket) -> None:
    local = written(tmp_path / "data", write_grey)
    bucket.put_folder(tmp_path / "data", "deep")
    remote = DataSettings(
        labels=f"{bucket.url}/deep/labels.csv", images=f"{bucket.url}/deep/images", image_px=PX
    )
    home = tmp_path / "home"
    first = open_dataset(remote, home)
    assert first.fingerprint == open_dataset(local, tmp_path / "other").fingerprint
    assert not list(home.glob("spool/*"))
    read = len(bucket.read_keys())
    assert open_dataset(remote, home).fingerprint == first.fingerprint
    assert len(bucket.read_keys()) == read + 1  # the label file


def test_a_plan_takes_a_deep_set_from_the_cache_or_decodes_a_sample(tmp_path: Path) -> None:
    settings, home = written(tmp_path, write_grey), tmp_path / "home"
    assert not open_sample(settings, home, 8).is_decoded
    dataset = open_dataset(settings, home)
    sample = open_sample(settings, home, 8)
    assert sample.is_decoded
    assert sample.dataset.conversion == dataset.conversion


def mixed(path: Path, at: int) -> None:
    (write_rgb if at < 5 else write_grey)(path, at)


@pytest.mark.parametrize(
    ("write", "settings"),
    [
        (write_bands, {}),
        (write_bands, {"bands": (5,)}),
        (mixed, {}),
        (lambda path, _: path.with_suffix(".png").write_bytes(bytes(128) + b"DICM"), {}),
        (lambda path, _: path.with_suffix(".png").write_bytes(b"no image"), {}),
    ],
    ids=["bands not named", "no such band", "two depths", "another format", "no image"],
)
def test_the_error_names_what_can_be_done(
    tmp_path: Path,
    write: Callable[[Path, int], None],
    settings: dict[str, Any],
    words: SnapshotAssertion,
) -> None:
    with pytest.raises(ImageError) as caught:
        open_dataset(written(tmp_path, write, **settings), tmp_path / "home")
    assert str(caught.value).replace(str(tmp_path), "FOLDER") == words
