"""Label files as tests write and read them."""

from pathlib import Path

import numpy as np

from canopy_search.training.data.labels.label_file import LabelTable, read_label_file
from canopy_search.training.settings import ColumnSettings, DataSettings, SplitSettings


def labels_of(
    path: Path, columns: ColumnSettings | None = None, split: SplitSettings | None = None
) -> LabelTable:
    """A label file as read with these settings."""
    settings = DataSettings(
        labels=path,
        images=path.parent,
        columns=columns or ColumnSettings(),
        split=split or SplitSettings(),
    )
    return read_label_file(path, settings)


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "train_classes.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def tags(table: LabelTable) -> dict[str, frozenset[str]]:
    return {
        name: frozenset(np.array(table.labels, object)[row.astype(bool)])
        for name, row in zip(table.image_names, table.targets, strict=True)
    }
