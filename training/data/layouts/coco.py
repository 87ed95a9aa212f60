"""COCO: one JSON file; the categories of an image's annotated objects are its labels."""

import json
from codecs import BOM_UTF8
from typing import Any

from canopy_search.filestore.urls import Source
from canopy_search.training.data.labels.rows import LabelRows, label_text
from canopy_search.training.errors import LabelFileError, listed, shown
from canopy_search.training.settings import NAME_COLUMN, TAGS_COLUMN


def coco_rows(path: Source, content: bytes) -> LabelRows | None:
    """Reads the annotations of objects, ``instances_*.json``.

    Args:
        path: the file, for messages.
        content: of the file.

    Returns:
        None if the file has another layout.

    Raises:
        LabelFileError: the file has no annotations with categories, or they do not fit its images.

    References:
        https://cocodataset.org/#format-data
    """
    if content[:64].removeprefix(BOM_UTF8).lstrip()[:1] != b"{" or b'"images"' not in content:
        return None
    try:
        document = json.loads(label_text(path, content))
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        return None
    names = {
        _key(category, "id"): str(category.get("name", ""))
        for category in _objects(path, document, "categories")
    }
    images = _objects(path, document, "images")
    tags: dict[Any, set[str]] = {_key(image, "id"): set() for image in images}
    annotations = _objects(path, document, "annotations")
    if not images or not annotations or not names:
        empty = [key for key in ("images", "annotations", "categories") if not document.get(key)]
        raise LabelFileError(
            f"{path}: a COCO file without {listed(empty, separator=' and ')}, so no image has a "
            "label; use a file of annotated objects such as instances_train2017.json"
        )
    for at, annotation in enumerate(annotations):
        image, category = _key(annotation, "image_id"), _key(annotation, "category_id")
        if image not in tags or category not in names:
            key, value = ("image_id", image) if image not in tags else ("category_id", category)
            raise LabelFileError(
                f"{path}: annotations[{at}]: {key} is {shown(value)}, which the file does not "
                "describe; use a file of annotated objects such as instances_train2017.json"
            )
        tags[image].add(names[category])
    columns: dict[str, list[Any]] = {
        NAME_COLUMN: [image.get("file_name") for image in images],
        TAGS_COLUMN: [sorted(tags[_key(image, "id")]) for image in images],
    }
    return LabelRows(
        path=path,
        layout="COCO",
        columns=tuple(columns),
        numbers=range(1, len(images) + 1),
        column=columns.__getitem__,
        name="coco",
    )


def _objects(path: Source, document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = document.get(key) or []
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise LabelFileError(f"{path}: {key}: expected a list of objects, found {shown(found)}")
    return found


def _key(entry: dict[str, Any], name: str) -> int | str | None:
    """Returns an identifier; lists and objects, which cannot be one, as None."""
    value = entry.get(name)
    return value if isinstance(value, int | str) else None
