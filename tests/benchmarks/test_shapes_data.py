import csv
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import shapes_data
from canopy_search.training.data.labels.label_file import read_label_file
from canopy_search.training.data.splits import split_table
from canopy_search.training.settings import DataSettings, SplitSettings


def test_jpegs_are_split_by_a_column_as_shapes_yaml_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes_data, "SCENES", 120)
    shapes_data.write_shapes(tmp_path / "jpeg", 2)
    shapes_data.write_shapes(tmp_path / "png")
    with (tmp_path / "jpeg" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(Counter(row["split"] for row in rows)) == {"train", "validation", "test"}
    with Image.open(tmp_path / "jpeg" / "images" / "scene_0007.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (64, 64))
    labels, images = tmp_path / "png" / "labels.csv", tmp_path / "png" / "images"
    plain = read_label_file(
        labels, DataSettings(labels=labels, images=images, split=SplitSettings(column=None))
    )
    split = split_table(plain, SplitSettings(validation=0.2, test=0.15, seed=0))
    whole = len(split.train) // 32 * 32
    wanted = {"train": split.train[:whole], "validation": split.validation}
    for name, images in wanted.items():
        written = [at for at, row in enumerate(rows) if row["split"] == name]
        assert written == images.tolist()
