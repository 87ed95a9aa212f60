import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from canopy_search.training.data.cache import pixels as cache_module
from canopy_search.training.data.cache.pixels import PixelCaches
from canopy_search.training.data.images.decoding import decode_image
from canopy_search.training.errors import DiskFullError, ImageError
from canopy_search.training.settings import DataSettings
from tests.reading_docs import ROOT

BUILDER = """
import hashlib, sys, time
from pathlib import Path
from canopy_search.filestore import atomic
from canopy_search.training.data.cache.pixels import PixelCaches

folder, images, signals, name = map(Path, sys.argv[1:])
paths = sorted(images.iterdir())
digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]

def pause(done, total):
    (signals / f"{name}-decodes").touch()
    while not (signals / "go").exists():
        time.sleep(0.01)

class Lock(atomic.FileLock):
    def acquire(self, *arguments, **options):
        (signals / f"{name}-asks").touch()
        return super().acquire(*arguments, **options)

atomic.FileLock = Lock
pixels = PixelCaches(folder, 16).open(paths, digests, pause).pixels
print(int(pixels.sum(dtype="int64")))
"""


class Images(NamedTuple):
    """Image files, their digests, and how often they were decoded."""

    paths: list[Path]
    digests: list[str]


@pytest.fixture
def images(planet: Callable[..., DataSettings]) -> Images:
    settings = planet(images=50)
    assert settings.images is not None
    paths = sorted(settings.images.iterdir())
    return Images(paths, [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])


class Decoded:
    """Counts the images that a cache had to decode."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.steps.append((done, total))


def only_cache(folder: Path) -> Path:
    """The one cache there is; nothing half-built lies beside it."""
    entries = [path for path in folder.iterdir() if path.name != ".lock"]
    assert len(entries) == 1
    assert len(entries[0].name) == 64
    return entries[0]


def squares(paths: list[Path]) -> NDArray[np.uint8]:
    return np.stack([decode_image(path.read_bytes(), 16) for path in paths])


def test_pixels_are_the_decoded_images_in_order_and_read_only(
    tmp_path: Path, images: Images
) -> None:
    decoded = Decoded()

    pixels = PixelCaches(tmp_path / "cache", 16).open(*images, decoded).pixels

    assert isinstance(pixels, np.memmap)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, squares(images.paths))
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 0
    assert decoded.steps == [(32, 50), (50, 50)]


def test_a_cache_is_built_once_for_a_content(tmp_path: Path, images: Images) -> None:
    folder, decoded = tmp_path / "cache", Decoded()
    PixelCaches(folder, 16).open(*images)
    moved = [path.rename(path.with_name(f"moved-{path.name}")) for path in images.paths]

    PixelCaches(folder, 16).open(moved, images.digests, decoded)

    assert decoded.steps == []
    only_cache(folder)


def test_size_order_content_and_decoding_rule_make_caches_of_their_own(
    tmp_path: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    paths, digests = images
    PixelCaches(folder, 16).open(paths, digests)
    PixelCaches(folder, 8).open(paths, digests)
    PixelCaches(folder, 16).open(paths[::-1], digests[::-1])
    PixelCaches(folder, 16).open(paths[1:], digests[1:])
    monkeypatch.setattr(cache_module, "DECODING_RULE", "another")
    PixelCaches(folder, 16).open(paths, digests)

    assert sum(path.is_dir() for path in folder.iterdir()) == 5


@pytest.mark.parametrize(
    "damage",
    [
        *("short file", "long file", "no file", "no meta", "cut meta", "nested meta"),
        *("other meta", "binary digests"),
    ],
)
def test_a_damaged_cache_is_rebuilt(tmp_path: Path, images: Images, damage: str) -> None:
    folder = tmp_path / "cache"
    whole = np.array(PixelCaches(folder, 16).open(*images).pixels)
    pixels_file, meta_file = only_cache(folder) / "pixels.bin", only_cache(folder) / "meta.json"
    meta = json.loads(meta_file.read_text())
    if damage == "short file":
        os.truncate(pixels_file, pixels_file.stat().st_size - 1)
    elif damage == "long file":
        os.truncate(pixels_file, pixels_file.stat().st_size + 1)
    elif damage == "no file":
        pixels_file.unlink()
    elif damage == "no meta":
        meta_file.unlink()
    elif damage == "cut meta":
        meta_file.write_bytes(meta_file.read_bytes()[:20])
    elif damage == "nested meta":
        meta_file.write_text("[" * 99_999)
    elif damage == "binary digests":
        (only_cache(folder) / "digests").write_bytes(b"\xff")
        meta_file.unlink()
    else:
        meta_file.write_text(json.dumps({**meta, "damaged": [[0, "no image", ""]]}))
    decoded = Decoded()

    rebuilt = PixelCaches(folder, 16).open(*images, decoded).pixels

    assert decoded.steps[-1] == (50, 50)
    assert np.array_equal(rebuilt, whole)
    assert json.loads(meta_file.read_text()) == meta


def test_an_image_that_changed_after_its_digest_is_refused(tmp_path: Path, images: Images) -> None:
    shutil.copy(images.paths[4], images.paths[5])

    with pytest.raises(ImageError, match=f"{images.paths[5].name}: changed after it was hashed"):
        PixelCaches(tmp_path / "cache", 16).open(*images)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_undecodable_images_are_told_apart_and_remembered(tmp_path: Path, images: Images) -> None:
    for at, content in ((40, b"no image"), (3, b"")):
        images.paths[at].write_bytes(content)
        images.digests[at] = hashlib.sha256(content).hexdigest()
    folder, decoded = tmp_path / "cache", Decoded()

    first = PixelCaches(folder, 16).open(*images)
    second = PixelCaches(folder, 16).open(*images, decoded)

    good = [path for at, path in enumerate(images.paths) if at not in {3, 40}]
    assert np.array_equal(first.pixels, squares(good))
    assert [(image.position, image.kind) for image in first.damaged] == [
        (3, "empty"),
        (40, "no image"),
    ]
    assert np.array_equal(second.pixels, first.pixels)
    assert second.damaged == first.damaged
    assert decoded.steps == []


def test_an_image_that_vanished_after_its_digest_is_named(tmp_path: Path, images: Images) -> None:
    images.paths[7].unlink()

    with pytest.raises(ImageError, match=f"{images.paths[7].name}: can no longer be read"):
        PixelCaches(tmp_path / "cache", 16).open(*images)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_cache_without_a_single_image_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"")

    cache = PixelCaches(tmp_path / "cache", 16).open([path], [hashlib.sha256(b"").hexdigest()])

    assert cache.pixels.shape == (0, 16, 16, 3)
    assert [image.kind for image in cache.damaged] == ["empty"]


def test_a_full_disk_is_told_before_anything_is_decoded(
    tmp_path: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=50 * 16 * 16 * 3 - 1))
    decoded = Decoded()

    with pytest.raises(DiskFullError, match=r"needs 0\.037 MiB.*lower data\.image_px"):
        PixelCaches(tmp_path / "cache", 16).open(*images, decoded)
    assert decoded.steps == []


def test_a_disk_that_fills_up_meanwhile_is_the_same_error(
    tmp_path: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(DiskFullError, match="make room"):
        PixelCaches(tmp_path / "cache", 16).open(*images)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


class Builders:
    """Real processes that build the cache of the images, and pause after the first ones."""

    def __init__(self, tmp_path: Path, images: Images) -> None:
        self.folder = tmp_path / "cache"
        self.signals = tmp_path / "signals"
        self.signals.mkdir()
        self._images = images.paths[0].parent

    def start(self, name: str) -> subprocess.Popen[str]:
        arguments = [self.folder, self._images, self.signals, name]
        return subprocess.Popen(
            [sys.executable, "-c", BUILDER, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def wait_for(self, signal_name: str) -> None:
        deadline = time.monotonic() + 240
        while not (self.signals / signal_name).exists():
            assert time.monotonic() < deadline, f"{signal_name} did not happen"
            time.sleep(0.01)

    def go_on(self) -> None:
        (self.signals / "go").touch()


@pytest.fixture
def builders(tmp_path: Path, images: Images) -> Builders:
    return Builders(tmp_path, images)


def test_of_two_builders_at_once_the_second_waits_and_uses_the_first_ones(
    builders: Builders, images: Images
) -> None:
    first = builders.start("first")
    builders.wait_for("first-decodes")
    second = builders.start("second")
    builders.wait_for("second-asks")
    assert second.poll() is None

    builders.go_on()
    sums = [process.communicate()[0] for process in (first, second)]

    assert (first.returncode, second.returncode) == (0, 0)
    assert not (builders.signals / "second-decodes").exists()
    expected = sum(
        int(decode_image(path.read_bytes(), 16).sum(dtype=np.int64)) for path in images.paths
    )
    assert sums == [f"{expected}\n"] * 2


def test_a_killed_builder_leaves_nothing_that_matters(builders: Builders, images: Images) -> None:
    killed = builders.start("killed")
    builders.wait_for("killed-decodes")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    leftovers = [path.name for path in builders.folder.iterdir() if path.name != ".lock"]
    assert [Path(name).suffix for name in leftovers] == [".partial"]

    pixels = PixelCaches(builders.folder, 16).open(*images).pixels

    assert np.array_equal(pixels, squares(images.paths))
    assert only_cache(builders.folder).name == Path(leftovers[0]).stem
