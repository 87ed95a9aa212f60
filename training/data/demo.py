"""The built-in demo set: scenes of handwritten digits with long-tailed labels.

It is written in the file layout of Kaggle's Planet competition and read like the user's own data.
The digits are real, from scikit-learn; everything else is integer arithmetic on a seeded generator,
so the files have the same bytes on every machine.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from canopy_search.filestore.atomic import build_atomically
from canopy_search.training.data.files.parallel import map_in_order, runs, usable_cores
from canopy_search.training.settings import NAME_COLUMN, TAGS_COLUMN

SCENES = 3000
SCENE_PX = 48

_VERSION = "digits-1"  # folder name; raise it when the scenes change
_SEED = 2017
_SCENES_PER_TASK = 50
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# Relative frequency of each digit: labels occur in 59 down to 2 percent of the scenes, as
# long-tailed as Planet's.
_FREQUENCIES = (340, 230, 155, 102, 68, 45, 30, 20, 13, 9)

_MOST_DIGITS = 4
_QUADRANT_PX = SCENE_PX // 2
_DIGIT_PX = range(20, 27)
_TEXTURE_CELLS = 6
_UNIT = 64  # the weights of an interpolation sum to it
_OPAQUE = 16 * _UNIT * _UNIT  # full ink of load_digits, interpolated twice


@dataclass(frozen=True)
class DemoFiles:
    """Paths of the demo set."""

    labels: Path
    images: Path


def make_demo(folder: Path, on_progress: Callable[[int, int], None] | None = None) -> DemoFiles:
    """Creates the demo set unless it exists.

    Args:
        folder: where the set gets a subfolder.
        on_progress: called with (scenes made, scenes).
    """
    demo_folder = folder / _VERSION

    def build(partial: Path) -> None:
        _write_scenes(_files(partial), on_progress)

    build_atomically(demo_folder, _is_complete, build)
    return _files(demo_folder)


def demo_images(count: int) -> list[bytes]:
    """Returns the first images of the set, as files."""
    handwriting = _handwriting()
    return [_png(_scene(number, handwriting)[0]) for number in range(count)]


def _files(folder: Path) -> DemoFiles:
    return DemoFiles(folder / "train_classes.csv", folder / "train-png")


def _is_complete(folder: Path) -> bool:
    files = _files(folder)
    return files.labels.is_file() and sum(1 for _ in files.images.glob("train_*.png")) == SCENES


def _write_scenes(files: DemoFiles, on_progress: Callable[[int, int], None] | None) -> None:
    handwriting = _handwriting()
    files.images.mkdir()

    def write(numbers: range) -> list[str]:
        rows = []
        for number in numbers:
            pixels, digits = _scene(number, handwriting)
            (files.images / f"train_{number}.png").write_bytes(_png(pixels))
            rows.append(f"train_{number},{' '.join(_WORDS[digit] for digit in digits)}")
        return rows

    rows = [f"{NAME_COLUMN},{TAGS_COLUMN}"]
    tasks = runs(SCENES, _SCENES_PER_TASK)
    cores = usable_cores()
    for task_rows in map_in_order(write, tasks, threads=cores, ahead=2 * cores):
        rows += task_rows
        if on_progress:
            on_progress(len(rows) - 1, SCENES)
    files.labels.write_text("\n".join(rows) + "\n", newline="\n")


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Encodes an image, (height, width, 3), as PNG with the same bytes on every machine.

    Pillow's files depend on its version of zlib, and a data set's fingerprint on the bytes of its
    files. Without compression, an image of one stored block (64 KiB) is the same everywhere.

    References:
        https://www.w3.org/TR/png-3/ for the chunks.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row starts with filter type 0
    rows[:, 1:] = pixels.reshape(height, 3 * width)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),  # eight bits, RGB
        b"IDAT": zlib.compress(rows.tobytes(), level=0),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks.items()
    )


def _handwriting() -> list[NDArray[np.int32]]:
    """Returns the images of each digit, (images, 8, 8), ink from 0 to 16."""
    # Imported here, because it takes a second that only the first start should spend.
    from sklearn.datasets import load_digits

    digits = load_digits()
    return [digits.images[digits.target == digit].astype(np.int32) for digit in range(10)]


def _scene(
    number: int, handwriting: list[NDArray[np.int32]]
) -> tuple[NDArray[np.uint8], list[int]]:
    """Returns one scene and its digits, sorted.

    Every scene has its own generator, so scenes can be created in any order.
    """
    rng = np.random.default_rng((_SEED, number))
    drawn = rng.integers(sum(_FREQUENCIES), size=rng.integers(1, _MOST_DIGITS + 1))
    digits = np.searchsorted(np.cumsum(_FREQUENCIES), drawn, side="right").tolist()
    background = rng.integers(30, 226, size=3, dtype=np.int32)
    scene = background + _texture(rng)
    for digit, quadrant in zip(digits, rng.permutation(4).tolist(), strict=False):
        ink = _ink_colour(rng, background)
        side = int(rng.integers(_DIGIT_PX.start, _DIGIT_PX.stop))
        top, left = (
            min(max(0, _QUADRANT_PX * cell + int(rng.integers(-4, 5))), SCENE_PX - side)
            for cell in divmod(quadrant, 2)
        )
        drawing = handwriting[digit][rng.integers(len(handwriting[digit]))]
        opacity = np.minimum(_enlarged(drawing, side) * 5 // 4, _OPAQUE)[..., None]
        region = scene[top : top + side, left : left + side]
        region += (ink - region) * opacity // _OPAQUE
    scene += rng.integers(-8, 9, size=scene.shape, dtype=np.int8)
    return np.clip(scene, 0, 255).astype(np.uint8), sorted(set(digits))


def _texture(rng: np.random.Generator) -> NDArray[np.int32]:
    """Returns smooth noise, (SCENE_PX, SCENE_PX, 3), around zero."""
    coarse = rng.integers(-25, 26, size=(3, _TEXTURE_CELLS, _TEXTURE_CELLS), dtype=np.int32)
    return np.stack([_enlarged(cells, SCENE_PX) for cells in coarse], axis=-1) // _UNIT**2


def _ink_colour(rng: np.random.Generator, background: NDArray[np.int32]) -> NDArray[np.int32]:
    """Returns a colour darker than a light background or lighter than a dark one."""
    distance = rng.integers(80, 160, size=3, dtype=np.int32)
    is_dark = background.mean() < 128
    ink: NDArray[np.int32] = np.clip(background + (distance if is_dark else -distance), 0, 255)
    return ink


def _enlarged(image: NDArray[np.int32], side: int) -> NDArray[np.int32]:
    """Returns a square image scaled by bilinear interpolation, times _UNIT squared."""
    weights = _interpolation(len(image), side)
    return weights @ image @ weights.T


@cache
def _interpolation(cells: int, side: int) -> NDArray[np.int32]:
    """Returns interpolation weights of `cells` values at `side` points, (side, cells)."""
    position = np.arange(side) * (cells - 1) * _UNIT // (side - 1)
    below, part = np.divmod(position, _UNIT)
    weights = np.zeros((side, cells), np.int32)
    weights[np.arange(side), below] = _UNIT - part
    weights[np.arange(side), np.minimum(below + 1, cells - 1)] += part
    return weights
