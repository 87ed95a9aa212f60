"""Data sets as people have them, in other shapes than Planet's."""

import csv
from itertools import compress
from pathlib import Path

import numpy as np
import pyarrow as pa
import tifffile
from PIL import Image
from pyarrow import parquet

LABELS = ("atelectasis", "effusion", "mass", "no finding")
COLOURS = ((255, 40, 40), (40, 255, 40), (40, 40, 255), (240, 240, 60))


def picture(present: list[bool], generator: np.random.Generator, image_px: int) -> Image.Image:
    """An image in which each label that is present colours one quarter."""
    pixels = generator.integers(100, 150, (image_px, image_px, 3)).astype(np.uint8)
    half = image_px // 2
    for at, is_present in enumerate(present):
        if is_present:
            top, left = at // 2 * half, at % 2 * half
            pixels[top : top + half, left : left + half] = COLOURS[at]
    return Image.fromarray(pixels)


def write_one_hot(folder: Path, images: int = 120) -> None:
    """``labels.csv`` with a column for each label and a split of the user's; PNGs in subfolders."""
    generator = np.random.default_rng(3)
    with _made(folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *LABELS, "age", "split"])
        for at in range(images):
            present = (generator.random(len(LABELS)) < 0.4).tolist()
            name = f"batch_{at % 3}/{at:04d}.png"
            picture(present, generator, 40).save(_made(folder / "pictures" / name))
            part = ("train", "train", "train", "val", "test")[at % 5]
            writer.writerow([name, *map(int, present), generator.integers(20, 90), part])


def write_parquet(folder: Path, images: int = 120) -> None:
    """``labels.parquet`` with lists of labels that hold spaces, and patients; WebP and TIFF."""
    generator = np.random.default_rng(4)
    names, tags = [], []
    for at in range(images):
        present = (generator.random(len(LABELS)) < 0.4).tolist()
        name = f"scan_{at}"
        suffix = ("webp", "tif")[at % 2]
        picture(present, generator, 40).save(_made(folder / "scans" / f"{name}.{suffix}"))
        names.append(name)
        tags.append(
            [label for label, is_present in zip(LABELS, present, strict=True) if is_present]
        )
    patients = [f"p{at // 4}" for at in range(images)]
    columns = {"Image Index": names, "Finding Labels": tags, "Patient ID": patients}
    parquet.write_table(pa.table(columns), folder / "labels.parquet")


def write_tiles(folder: Path, images: int = 40) -> None:
    """``labels.csv`` and TIFF tiles of four bands of 16 bits as satellites' are, blue first."""
    generator = np.random.default_rng(5)
    with _made(folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_name", "tags"])
        for at in range(images):
            present = (generator.random(len(LABELS)) < 0.4).tolist()
            colours = np.asarray(picture(present, generator, 16)).astype(np.uint16) * 12 + 200
            bands = np.dstack([colours[..., ::-1], colours[..., :1]])
            tifffile.imwrite(
                _made(folder / "tiles" / f"tile_{at}.tif"),
                bands,
                photometric="minisblack",
                planarconfig="contig",
            )
            writer.writerow([f"tile_{at}", "|".join(compress(LABELS, present))])


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
