"""Writes a second data set for comparisons of searches: small shapes on texture, with label noise.

Run it with ``python -m benchmarks.shapes_data FOLDER``; with ``--jpeg 2`` the scenes are JPEGs of
twice the size that is trained on, as Planet's of 256 px are at 128, and ``labels.csv`` has a column
``split`` for programs that split nothing themselves. It has little in common with the demo but
the layout: coloured shapes that overlap and turn, one in twenty labels wrong, so that no network
comes near an AP of one and the late epochs of a high learning rate overfit.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from canopy_search.training.data.splits import PARTS, split_images
from canopy_search.training.settings import SplitSettings

SCENES = 2000
SCENE_PX = 32
SEED = 11
WRONG_LABELS = 0.05
JPEG_QUALITY = 90
BATCH_SIZE = 32
SPLIT = SplitSettings(validation=0.2, test=0.15, seed=0)
# From frequent to rare.
SHAPES = {
    "disc": 0.45, "box": 0.35, "ring": 0.25, "bar": 0.2, "wedge": 0.14, "cross": 0.1,
    "frame": 0.07, "dots": 0.05,
}  # fmt: skip


def main() -> None:
    """Writes ``labels.csv`` and the folder ``images`` below the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jpeg", type=int, metavar="FACTOR", help="JPEGs of so many times 32 px")
    arguments = parser.parse_args()
    write_shapes(arguments.folder, arguments.jpeg)
    print(f"wrote {SCENES} scenes to {arguments.folder}")


def write_shapes(folder: Path, jpeg_factor: int | None = None) -> None:
    """Writes the data set.

    Args:
        folder: is made if need be.
        jpeg_factor: enlarges the scenes, which are JPEGs then and split by a column; None for PNG.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(SEED)
    tagged: list[list[str]] = []
    for index in range(SCENES):
        drawn = [shape for shape, rate in SHAPES.items() if generator.random() < rate]
        scene = _scene(generator, drawn)
        path = folder / "images" / f"scene_{index:04d}"
        if jpeg_factor is None:
            scene.save(path.with_suffix(".png"))
        else:
            side = jpeg_factor * SCENE_PX
            large = scene.resize((side, side), Image.Resampling.BICUBIC)
            large.save(path.with_suffix(".jpg"), quality=JPEG_QUALITY)
        wrong = {shape for shape in SHAPES if generator.random() < WRONG_LABELS}
        tagged.append([shape for shape in SHAPES if (shape in drawn) != (shape in wrong)])
    rows = ["image_name,tags", *(f"scene_{at:04d},{' '.join(t)}" for at, t in enumerate(tagged))]
    if jpeg_factor is not None:
        parts = split_parts(tagged, SPLIT)
        rows = [f"{row},{part}" for row, part in zip(rows, ["split", *parts], strict=True)]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def split_parts(tagged: Sequence[Sequence[str]], settings: SplitSettings) -> list[str]:
    """Returns the part of each image: the split that settings ask for.

    But for the last images for training beyond whole batches, which are for test: everybody cuts
    what is left over from whole batches in another way.

    Args:
        tagged: the labels of each image.
        settings: shares and seed.
    """
    labels = sorted({label for tags in tagged for label in tags})
    targets = np.array([[label in tags for label in labels] for tags in tagged], np.uint8)
    split = split_images(targets, settings)
    parts = [""] * len(tagged)
    for name in PARTS:
        for at in getattr(split, name):
            parts[at] = name
    for at in split.train[len(split.train) // BATCH_SIZE * BATCH_SIZE :]:
        parts[at] = "test"
    return parts


def _scene(generator: np.random.Generator, shapes: list[str]) -> Image.Image:
    cells = generator.integers(60, 190, (8, 8, 3)).astype(np.uint8)
    scene = Image.fromarray(cells).resize((SCENE_PX, SCENE_PX), Image.Resampling.BICUBIC)
    for shape in shapes:
        size = int(generator.integers(8, 13))
        mask = Image.new("L", (4 * size, 4 * size))
        _draw(ImageDraw.Draw(mask), shape, 4 * size)
        mask = mask.rotate(float(generator.uniform(0, 360)), Image.Resampling.BICUBIC)
        mask = mask.resize((size, size), Image.Resampling.LANCZOS)
        left, top = (int(each) for each in generator.integers(0, SCENE_PX - size, 2))
        colour = tuple(int(each) for each in generator.integers(0, 256, 3))
        scene.paste(colour, (left, top), mask)
    smooth = np.asarray(scene.filter(ImageFilter.GaussianBlur(0.5)), dtype=np.float32)
    noisy = smooth + generator.normal(0, 12, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _draw(draw: ImageDraw.ImageDraw, shape: str, size: int) -> None:
    """Draws one shape into a mask of `size` pixels a side."""
    low, high, middle, thick = size // 5, size - size // 5, size // 2, size // 7
    box = (low, low, high, high)
    if shape == "disc":
        draw.ellipse(box, fill=255)
    elif shape == "box":
        draw.rectangle(box, fill=255)
    elif shape == "ring":
        draw.ellipse(box, outline=255, width=thick)
    elif shape == "bar":
        draw.rectangle((low, middle - thick, high, middle + thick), fill=255)
    elif shape == "wedge":
        draw.polygon([(low, high), (high, high), (middle, low)], fill=255)
    elif shape == "cross":
        draw.rectangle((low, middle - thick // 2, high, middle + thick // 2), fill=255)
        draw.rectangle((middle - thick // 2, low, middle + thick // 2, high), fill=255)
    elif shape == "frame":
        draw.rectangle(box, outline=255, width=thick)
    else:
        for x in (low, high - thick):
            for y in (low, high - thick):
                draw.ellipse((x, y, x + 2 * thick, y + 2 * thick), fill=255)


if __name__ == "__main__":
    main()
