"""Parquet files, also those of Hugging Face with the images themselves, in one file or several."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from canopy_search.filestore.atomic import build_atomically
from canopy_search.filestore.messages import first_line
from canopy_search.filestore.urls import Source
from canopy_search.training.data.labels.rows import LabelRows, label_content
from canopy_search.training.errors import LabelFileError, listed, shown
from canopy_search.training.settings import NAME_COLUMN

PARQUET = b"PAR1"
WITH_IMAGES = "with images"
"""How the layout of files ends that contain the images themselves."""

_BEGINNINGS = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"RIFF": ".webp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"BM": ".bmp",
    b"GIF8": ".gif",
}
_ROWS_AT_ONCE = 256


def parquet_rows(path: Source, content: bytes) -> LabelRows:
    """Reads the columns; identifiers of Hugging Face's classes become their names.

    Args:
        path: the file, for messages.
        content: of the file.

    Raises:
        LabelFileError: the file is damaged.
    """
    file = _opened(path, content)
    images = _image_column(file)
    classes = _classes(file.schema_arrow.metadata or {})
    count: int = file.metadata.num_rows

    def column(name: str) -> Sequence[Any]:
        if images is not None and name == NAME_COLUMN:
            return [_row_name(path, at) for at in range(count)]
        # One at a time, because the file may also contain the images themselves.
        values = _checked(path, lambda: file.read(columns=[name]).column(name).to_pylist())
        return (
            [_named(path, value, classes[name]) for value in values] if name in classes else values
        )

    columns = tuple(
        NAME_COLUMN if name == images else name
        for name in file.schema_arrow.names
        if images is None or name != NAME_COLUMN
    )
    layout = "Parquet" if images is None else f"Parquet {WITH_IMAGES}"
    return LabelRows(path, layout, columns, range(1, count + 1), column)


def parquet_files(folder: Path) -> list[Path]:
    """Returns the Parquet files of a folder, or of ``data`` in it, as Hugging Face stores them."""
    return sorted(folder.glob("*.parquet")) or sorted((folder / "data").glob("*.parquet"))


def unpacked_images(labels: Source, home: Path) -> Path:
    """Writes the images that Parquet files contain to a folder, once, and returns it.

    Args:
        labels: the file, or the folder of several.
        home: the state folder.

    Raises:
        LabelFileError: a file is damaged or contains no images.
    """
    files: list[Source] = [labels]
    if isinstance(labels, Path) and labels.is_dir():
        files = list(parquet_files(labels))
    contents = {file: label_content(file) for file in files}
    sha = hashlib.sha256()
    for file, content in contents.items():
        # The images are named after the files, which may be copies of each other.
        sha.update(_row_name(file, 0).encode() + hashlib.sha256(content).digest())
    folder = home / "unpacked" / sha.hexdigest()[:32]

    def build(partial_folder: Path) -> None:
        for file, content in contents.items():
            _unpack(file, content, partial_folder)

    build_atomically(folder, Path.is_dir, build)
    return folder


def _unpack(path: Source, content: bytes, folder: Path) -> None:
    if not content.startswith(PARQUET):
        raise LabelFileError(f"{path}: contains no images; name their folder in data.images")
    file = _opened(path, content)
    name = _image_column(file)
    if name is None:
        raise LabelFileError(
            f"{path}: contains no images, only {listed(file.schema_arrow.names)}; name their "
            "folder in data.images"
        )
    at = 0
    batches = file.iter_batches(_ROWS_AT_ONCE, columns=[name])
    while (batch := _checked(path, partial(next, batches, None))) is not None:
        for image in batch.column(0).to_pylist():
            data = (image or {}).get("bytes") or b""
            extension = next(
                (ext for start, ext in _BEGINNINGS.items() if data.startswith(start)), ""
            )
            (folder / f"{_row_name(path, at)}{extension or '.png'}").write_bytes(data)
            at += 1


def _row_name(path: Source, row: int) -> str:
    return f"{str(path).rpartition('/')[2].removesuffix('.parquet')}_{row:07d}"


def _opened(path: Source, content: bytes) -> Any:
    # Imported here, because it is slow and only needed for Parquet.
    from pyarrow import parquet

    return _checked(path, lambda: parquet.ParquetFile(io.BytesIO(content)))


def _checked(path: Source, read: Callable[[], Any]) -> Any:
    import pyarrow as pa

    try:
        return read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LabelFileError(
            f"{path}: a damaged Parquet file ({first_line(error)}); write it again"
        ) from error


def _image_column(file: Any) -> str | None:
    """Returns the first column of structures with the bytes of an image."""
    for entry in file.schema_arrow:
        fields = getattr(entry.type, "fields", None) or ()
        if "bytes" in {each.name for each in fields}:
            return str(entry.name)
    return None


def _classes(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Returns column → names of the classes, for columns of classes or of lists of them."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {})["features"]
        described = {name: feature.get("feature", feature) for name, feature in features.items()}
        return {
            name: [str(each) for each in feature["names"]]
            for name, feature in described.items()
            if isinstance(feature, dict) and isinstance(feature.get("names"), list)
        }
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return {}


def _named(path: Source, value: Any, names: Sequence[str]) -> list[str]:
    """Returns the names of the classes of a cell."""
    found = value if isinstance(value, list) else [] if value is None else [value]
    for number in found:
        if not isinstance(number, int) or not 0 <= number < len(names):
            raise LabelFileError(
                f"{path}: expected a class from 0 to {len(names) - 1}, found {shown(number)}; "
                "remove rows without a label"
            )
    return [names[number] for number in found]
