"""Recognises the layout of a data set by its content, and reads it."""

from collections import Counter
from pathlib import Path
from typing import Literal

from canopy_search.filestore.retry import Retrier
from canopy_search.filestore.urls import Source, joined
from canopy_search.training.data.files.sources import opened_images, read_source
from canopy_search.training.data.labels.names import ImagesBelow, images_below
from canopy_search.training.data.labels.rows import LabelRows, label_content, text_rows
from canopy_search.training.data.layouts.celeba import celeba_rows
from canopy_search.training.data.layouts.chexpert import chexpert_rows
from canopy_search.training.data.layouts.class_folders import class_folder_rows
from canopy_search.training.data.layouts.coco import coco_rows
from canopy_search.training.data.layouts.open_images import open_images_rows
from canopy_search.training.data.layouts.parquet import PARQUET, parquet_rows
from canopy_search.training.data.layouts.part_files import label_files, part_rows
from canopy_search.training.data.layouts.voc import is_voc_folder, voc_rows
from canopy_search.training.errors import LabelFileError, shown
from canopy_search.training.settings import LayoutName


def read_rows(
    path: Source,
    layout: Literal["auto"] | LayoutName = "auto",
    retrier: Retrier | None = None,
    *,
    follow_links: bool = False,
) -> LabelRows:
    """Reads the rows of a label file, or of a folder that is labelled by its files.

    Args:
        path: the file or folder, or its URL.
        layout: of `path`; ``auto`` recognises it.
        retrier: how long to wait for an unavailable file store; by default some minutes.
        follow_links: whether class folders may be symbolic links.

    Raises:
        LabelFileError: the file is missing, empty, damaged or has another layout.
    """
    if isinstance(path, Path) and path.is_dir():
        rows = _folder_rows(path, retrier, follow_links=follow_links)
    elif isinstance(path, str) and layout == "class_folders":
        rows = class_folder_rows(path, _remote_images(path, retrier))
    else:
        rows = _file_rows(path, layout, retrier)
    if layout not in {"auto", rows.name}:
        raise LabelFileError(
            f"{path}: data.layout is {layout}, but this is {rows.layout} ({rows.name}); correct "
            "data.layout or data.labels"
        )
    twice = [name for name, count in Counter(rows.columns).items() if count > 1]
    if twice:
        raise LabelFileError(
            f"{path}: row 1: duplicate column {shown(min(twice))}; rename or remove one"
        )
    return rows


def _folder_rows(path: Path, retrier: Retrier | None, *, follow_links: bool) -> LabelRows:
    if is_voc_folder(path):
        return voc_rows(path)
    if files := label_files(path):
        return part_rows(path, files, lambda file: _file_rows(file, "auto", retrier))
    return class_folder_rows(path, images_below(path, follow_links=follow_links))


def _remote_images(url: str, retrier: Retrier | None) -> ImagesBelow:
    with opened_images(url, retrier) as folder:
        return images_below(folder)


def _file_rows(
    path: Source, layout: Literal["auto"] | LayoutName, retrier: Retrier | None
) -> LabelRows:
    try:
        content = label_content(path, retrier)
    except LabelFileError as error:
        is_absent = isinstance(path, str) and isinstance(error.__cause__, FileNotFoundError)
        images = _remote_images(str(path), retrier) if is_absent else None
        if images is None or not images.files:
            raise
        return class_folder_rows(path, images)
    if content.startswith(PARQUET):
        return parquet_rows(path, content)

    def beside(name: str) -> bytes | None:
        """Returns the content of another file of the same folder, None if there is none."""
        folder = path.parent if isinstance(path, Path) else path.rpartition("/")[0]
        other = folder / name if isinstance(folder, Path) else joined(folder, name)
        try:
            return read_source(other, retrier)
        except OSError:
            return None

    if layout == "table":
        return text_rows(path, content)
    special = celeba_rows(path, content, beside) or coco_rows(path, content)
    if special is not None:
        return special
    rows = text_rows(path, content)
    return chexpert_rows(rows) or open_images_rows(rows, beside) or rows
