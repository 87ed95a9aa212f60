"""Open Images: a CSV with a row for each image and label, which is present or verified absent."""

import csv
import io
from collections import Counter
from collections.abc import Callable

from canopy_search.training.data.labels.rows import LabelRows, label_text
from canopy_search.training.errors import shown
from canopy_search.training.settings import NAME_COLUMN

_COLUMNS = ("ImageID", "LabelName", "Confidence")
_DESCRIPTIONS = (
    "class-descriptions.csv",
    "class-descriptions-boxable.csv",
    "oidv7-class-descriptions.csv",
    "oidv7-class-descriptions-boxable.csv",
    "oidv6-class-descriptions.csv",
)
_PRESENT, _ABSENT, _UNCERTAIN, _UNKNOWN = "1", "0", "-1", ""


def open_images_rows(rows: LabelRows, beside: Callable[[str], bytes | None]) -> LabelRows | None:
    """Returns a row for each image, with a column for each label.

    Confidence 1 is present and 0 is verified absence; a machine's confidence in between is
    uncertain, as are labels that people disagree on. Labels that an image has no row for are
    unknown.

    Args:
        rows: of any table.
        beside: name → content of another file of the same folder: the labels' descriptions.

    Returns:
        None if the table has another layout.

    Raises:
        LabelFileError: a confidence is no number.

    References:
        https://storage.googleapis.com/openimages/web/factsfigures_v7.html
    """
    if not set(_COLUMNS) <= set(rows.columns):
        return None
    images, labels, confidences = (rows.column(name) for name in _COLUMNS)
    described = _descriptions(beside)
    cells: dict[str, dict[str, str]] = {}
    first: dict[str, int] = {}
    for at, (image, label, confidence) in enumerate(zip(images, labels, confidences, strict=True)):
        value = _value(rows, at, str(confidence))
        of_image = cells.setdefault(str(image), {})
        first.setdefault(str(image), rows.numbers[at])
        name = described.get(str(label), str(label))
        before = of_image.setdefault(name, value)
        if before != value:
            verified = {before, value} - {_UNCERTAIN}
            of_image[name] = verified.pop() if len(verified) == 1 else _UNCERTAIN
    names = tuple(sorted({label for of_image in cells.values() for label in of_image}))
    has_absence = any(_ABSENT in of_image.values() for of_image in cells.values())
    image_names = list(cells)

    def column(name: str) -> list[str]:
        if name == NAME_COLUMN:
            return image_names
        return [cells[image].get(name, _UNKNOWN) for image in image_names]

    return LabelRows(
        path=rows.path,
        layout="Open Images, a row for each image and label",
        columns=(NAME_COLUMN, *names),
        numbers=[first[image] for image in image_names],
        column=column,
        name="open_images",
        labels=names,
        blank="ignore" if has_absence else "zero",
    )


def _value(rows: LabelRows, at: int, text: str) -> str:
    try:
        confidence = float(text)
    except ValueError:
        raise rows.error(
            at, f"column 'Confidence': expected a number, found {shown(text)}; correct it"
        ) from None
    if confidence in {0.0, 1.0}:
        return _PRESENT if confidence else _ABSENT
    return _UNCERTAIN


def _descriptions(beside: Callable[[str], bytes | None]) -> dict[str, str]:
    """Returns identifier → name of every label whose name is its own."""
    for file in _DESCRIPTIONS:
        content = beside(file)
        if content is not None:
            lines = csv.reader(io.StringIO(label_text(file, content)))
            names = {line[0]: line[1].strip() for line in lines if len(line) > 1}
            counts = Counter(names.values())
            return {label: name for label, name in names.items() if counts[name] == 1}
    return {}
