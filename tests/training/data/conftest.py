"""The demo set, and a folder in Planet's layout that is not of the demo's making."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from canopy_search.training.data.dataset import Dataset, open_dataset
from canopy_search.training.settings import DataSettings, SplitSettings

TAG_FREQUENCIES = {"clear": 0.7, "primary": 0.6, "water": 0.3, "road": 0.15, "haze": 0.1}

PlanetMaker = Callable[..., DataSettings]


@pytest.fixture
def planet(tmp_path: Path) -> PlanetMaker:
    """Makes a folder of JPEGs with a label file and returns the settings that name them."""

    def make(
        *, images: int = 60, side_px: int = 40, image_px: int = 16, name: str = "planet"
    ) -> DataSettings:
        rng = np.random.default_rng(7)
        folder = tmp_path / name / "train-jpg"
        folder.mkdir(parents=True)
        rows = ["image_name,tags"]
        for number in range(images):
            pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize((side_px, side_px))
            image.save(folder / f"train_{number}.jpg")
            tags = [tag for tag, share in TAG_FREQUENCIES.items() if rng.random() < share]
            rows.append(f"train_{number},{' '.join(tags)}")
        labels = tmp_path / name / "train_classes.csv"
        labels.write_text("\n".join(rows) + "\n")
        return DataSettings(
            labels=labels,
            images=folder,
            image_px=image_px,
            split=SplitSettings(validation=0.2, test=0.2),
        )

    return make


@pytest.fixture
def numbered_pixels() -> NDArray[np.uint8]:
    """Images (50, 6, 6, 3) without any symmetry, each of which tells its own number."""
    pixels = np.random.default_rng(3).integers(0, 256, (50, 6, 6, 3), dtype=np.uint8)
    pixels[:, :, :, 0] = np.arange(50)[:, None, None]
    return pixels


class OpenedDemo(NamedTuple):
    """The demo set as a fresh home got it, and the steps that took."""

    dataset: Dataset
    home: Path
    steps: list[tuple[str, int, int]]


@pytest.fixture(scope="session")
def opened_demo(tmp_path_factory: pytest.TempPathFactory) -> OpenedDemo:
    home = tmp_path_factory.mktemp("home with the demo")
    steps: list[tuple[str, int, int]] = []
    settings = DataSettings(demo="digits", image_px=16)
    dataset = open_dataset(settings, home, lambda *step: steps.append(step))
    return OpenedDemo(dataset, home, steps)
