"""Small data sets in the layout of Kaggle's Planet, made by a generator of the tests' own."""

from pathlib import Path

import numpy as np
from PIL import Image

# From frequent to rare, as Planet's labels are.
LABEL_RATES = {
    "primary": 0.9, "clear": 0.6, "agriculture": 0.4, "road": 0.3, "water": 0.25, "cloudy": 0.15,
}  # fmt: skip
COLOURS = [
    (20, 90, 30),
    (200, 200, 80),
    (160, 110, 40),
    (90, 90, 90),
    (30, 60, 160),
    (230, 230, 240),
]


def write_planet_data(folder: Path, images: int = 120, image_px: int = 32, seed: int = 7) -> Path:
    """Writes ``train_classes.csv`` and the folder ``train-jpg``; returns the label file.

    Each label that an image has colours one tile of a 3 by 2 mosaic, so that there is something to
    learn within an epoch or two.
    """
    generator = np.random.default_rng(seed)
    (folder / "train-jpg").mkdir(parents=True)
    rows = ["image_name,tags"]
    for index in range(images):
        pixels = generator.integers(100, 150, size=(image_px, image_px, 3)).astype(np.uint8)
        tags = [label for label, rate in LABEL_RATES.items() if generator.random() < rate]
        for tile, label in enumerate(LABEL_RATES):
            if label in tags:
                top, left = tile // 3 * image_px // 2, tile % 3 * image_px // 3
                pixels[top : top + image_px // 2, left : left + image_px // 3] = COLOURS[tile]
        Image.fromarray(pixels).save(folder / "train-jpg" / f"train_{index}.jpg", quality=90)
        rows.append(f"train_{index},{' '.join(tags)}")
    label_file = folder / "train_classes.csv"
    label_file.write_text("\n".join(rows) + "\n")
    return label_file
