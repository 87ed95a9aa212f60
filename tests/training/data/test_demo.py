import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from canopy_search.training.data import demo as demo_module
from canopy_search.training.data.demo import SCENE_PX, SCENES, DemoFiles, make_demo
from canopy_search.training.data.labels.label_file import read_label_file
from canopy_search.training.settings import DataSettings


@pytest.fixture
def demo(opened_demo: Any) -> DemoFiles:
    return make_demo(opened_demo.home / "demo")


def test_the_demo_is_the_same_bytes_on_every_machine(demo: DemoFiles) -> None:
    sha = hashlib.sha256(demo.labels.read_bytes())
    for path in sorted(demo.images.iterdir()):
        sha.update(path.name.encode())
        sha.update(path.read_bytes())

    assert sha.hexdigest() == "5609d37e99bb3ed82fdf5840841c0f7b607e32e8169cafdce4817de4bcc72ea7"


def test_labels_are_many_and_long_tailed(demo: DemoFiles) -> None:
    table = read_label_file(demo.labels, DataSettings(demo="digits"))

    shares = dict(zip(table.labels, table.targets.mean(axis=0), strict=True))
    by_share = sorted(shares, key=shares.__getitem__, reverse=True)
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert by_share == words
    assert 0.55 < shares["zero"] < 0.65
    assert 0.015 < shares["nine"] < 0.03
    labels_per_scene = table.targets.sum(axis=1)
    assert labels_per_scene.min() == 1
    assert labels_per_scene.max() == 4


def test_scenes_are_images_of_the_stated_size(demo: DemoFiles) -> None:
    paths = list(demo.images.iterdir())

    assert len(paths) == SCENES
    with Image.open(paths[0]) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (SCENE_PX, SCENE_PX))


def test_it_is_made_once_and_again_when_scenes_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_module, "SCENES", 120)
    calls: list[tuple[int, int]] = []
    first = make_demo(tmp_path, lambda *step: calls.append(step))
    assert calls == [(50, 120), (100, 120), (120, 120)]
    labels = first.labels.read_bytes()
    calls.clear()

    assert make_demo(tmp_path, lambda *step: calls.append(step)) == first
    assert calls == []

    next(first.images.iterdir()).unlink()
    make_demo(tmp_path, lambda *step: calls.append(step))

    assert calls[-1] == (120, 120)
    assert len(list(first.images.iterdir())) == 120
    assert first.labels.read_bytes() == labels


@pytest.mark.parametrize("shape", [(1, 1, 3), (48, 48, 3), (3, 5, 3)])
def test_an_uncompressed_png_is_read_back_by_pillow(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(demo_module._png(pixels))

    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), pixels)
