"""Tags and probabilities of images, as CSV or JSON."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from canopy_search.search.errors import PredictionError
from canopy_search.search.image_arguments import ImageFile
from canopy_search.search.shown import shown_path
from canopy_search.training.model_file import TrainedModel
from canopy_search.training.prediction import Prediction, predict
from canopy_search.training.settings import NAME_COLUMN, TAGS_COLUMN

Format = Literal["csv", "json"]

MARKS = "|;,"
"""What Canopy takes for a separator of tags wherever it occurs in a label file."""

REASONS_SHOWN = 10


@dataclass(frozen=True)
class Predicted:
    """What came out.

    Attributes:
        text: the whole output; empty if no image could be read.
        images: number of images that were asked for.
        unreadable: name and reason of those that could not be read.
    """

    text: str
    images: int
    unreadable: list[tuple[str, str]]

    def unreadable_lines(self) -> list[str]:
        """Says how many images could not be read, and why the first ten."""
        if not self.unreadable:
            return []
        count = len(self.unreadable)
        lines = [f"{count:,} of {self.images:,} images cannot be read:"]
        lines += [
            f"  {shown_path(name)}: {reason}" for name, reason in self.unreadable[:REASONS_SHOWN]
        ]
        if count > REASONS_SHOWN:
            lines.append(f"  … and {count - REASONS_SHOWN:,} more")
        return lines


def predict_images(
    model: TrainedModel,
    files: Sequence[ImageFile],
    thresholds: npt.NDArray[np.float32],
    output_format: Format,
    *,
    device: str,
    batch_size: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Predicted:
    """Predicts all images.

    Args:
        model: as `load_model` gives it.
        files: the images.
        thresholds: (labels,), the logit from which on a label is a tag.
        output_format: of the text that is returned.
        device: ``auto`` is the first GPU, else the CPU.
        batch_size: images at a time.
        on_progress: called with (images done, images).

    Raises:
        PredictionError: the labels cannot be told apart in a CSV.
        SettingsError: the device is not there.
    """
    separator = tag_separator(model.labels) if output_format == "csv" else ""
    rows: list[Row] = []
    unreadable: list[tuple[str, str]] = []
    predictions = predict(
        model, [file.path for file in files], device=device, batch_size=batch_size
    )
    for done, (file, prediction) in enumerate(zip(files, predictions, strict=True), start=1):
        if prediction.logits is None:
            unreadable.append((file.name, prediction.reason))
        else:
            present = prediction.logits >= thresholds
            tags = [label for label, is_tag in zip(model.labels, present, strict=True) if is_tag]
            rows.append(Row(file.name, tags, prediction))
        if on_progress is not None:
            on_progress(done, len(files))
    text = ""
    if rows and output_format == "csv":
        text = _csv_text(model.labels, rows, separator)
    elif rows:
        text = _json_text(model.labels, rows)
    return Predicted(text, len(files), unreadable)


@dataclass(frozen=True)
class Row:
    """One image of the output.

    Attributes:
        image_name: what the output calls it.
        tags: its labels.
        prediction: with its probabilities.
    """

    image_name: str
    tags: list[str]
    prediction: Prediction

    @property
    def probabilities(self) -> list[str]:
        """To six digits, about what float32 holds; the same in every format."""
        return [f"{p:.6g}" for p in self.prediction.probabilities]


def tag_separator(labels: Sequence[str]) -> str:
    """Returns what to write between two tags so that Canopy reads the same tags again.

    A space, unless it or a mark that would be taken for the separator occurs in a label; then the
    first mark that occurs in none.

    Raises:
        PredictionError: there is no such mark.
    """
    text = "".join(labels)
    if not any(character in MARKS or character.isspace() for character in text):
        return " "
    for mark in MARKS:
        if mark not in text:
            return mark
    raise PredictionError(
        f"expected a separator of tags that occurs in no label, found each of {' '.join(MARKS)} in "
        "the labels of the model; use --format json"
    )


def _csv_text(labels: Sequence[str], rows: Sequence[Row], separator: str) -> str:
    """A label file with the probabilities beside the tags."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([NAME_COLUMN, TAGS_COLUMN, *(f"p_{label}" for label in labels)])
    for row in rows:
        writer.writerow([row.image_name, separator.join(row.tags), *row.probabilities])
    return text.getvalue()


def _json_text(labels: Sequence[str], rows: Sequence[Row]) -> str:
    """One array with a line for each image, so that grep and diff are of use too."""
    document: list[dict[str, Any]] = [
        {
            NAME_COLUMN: row.image_name,
            TAGS_COLUMN: row.tags,
            "probabilities": dict(zip(labels, map(float, row.probabilities), strict=True)),
        }
        for row in rows
    ]
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in document) + "\n]\n"
