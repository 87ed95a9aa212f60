"""Tags and probabilities of images, as CSV or JSON."""

import csv
import glob
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from search.errors import PredictionError
from training.data.guessing import image_files
from training.data.images import EXTENSIONS
from training.model_file import load_model
from training.prediction import Prediction, predict, tag_thresholds
from training.settings import NAME_COLUMN, TAGS_COLUMN

Format = Literal["csv", "json"]
SEPARATORS = " |;,"
NAMED = 10


@dataclass(frozen=True)
class ImageFile:
    """An image to predict.

    Attributes:
        name: what the output calls it: relative to the folder that was named, if that is all that
            was named; else as named.
        path: the file.
    """

    name: str
    path: Path


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

    @property
    def summary(self) -> str:
        """Which images could not be read, the first ten by name."""
        named = ", ".join(f"{name} ({reason})" for name, reason in self.unreadable[:NAMED])
        more = ", …" if len(self.unreadable) > NAMED else ""
        return f"{len(self.unreadable)} of {self.images} images cannot be read: {named}{more}"


def find_files(arguments: Sequence[str]) -> list[ImageFile]:
    """Returns the images that files, folders and globs stand for, each once, in order.

    Args:
        arguments: a folder stands for all image files in and below it, without those that links
            in it lead to; a glob for its matches, ``**`` for any number of folders.

    Raises:
        PredictionError: an argument stands for nothing.
    """
    found: dict[Path, ImageFile] = {}
    for argument in arguments:
        images = list(_expanded(argument, is_alone=len(arguments) == 1))
        if not images:
            raise PredictionError(_nothing(argument))
        for image in images:
            found.setdefault(image.path.absolute(), image)
    return list(found.values())


def predict_images(
    model_file: Path,
    files: Sequence[ImageFile],
    output_format: Format,
    *,
    thresholds: str = "f1",
    device: str = "auto",
    batch_size: int = 64,
    on_progress: Callable[[int, int], None] | None = None,
) -> Predicted:
    """Predicts all images.

    Args:
        model_file: as ``canopy train`` writes it.
        files: the images.
        output_format: of the text that is returned.
        thresholds: ``f1``, ``f2`` or ``half``.
        device: ``auto`` is the first GPU, else the CPU.
        batch_size: images at a time.
        on_progress: called with (images done, images).

    Raises:
        CheckpointError: the model file is missing or none.
        SettingsError: the device is not there, or the model keeps no such thresholds.
    """
    model = load_model(model_file)
    minimum = tag_thresholds(model, thresholds)
    rows: list[tuple[str, list[str], list[float]]] = []
    unreadable: list[tuple[str, str]] = []
    predictions: Iterator[Prediction] = predict(
        model, [file.path for file in files], device=device, batch_size=batch_size
    )
    for done, (file, prediction) in enumerate(zip(files, predictions, strict=True), start=1):
        if prediction.logits is None:
            unreadable.append((file.name, prediction.reason))
        else:
            present = prediction.logits >= minimum
            tags = [label for label, is_tag in zip(model.labels, present, strict=True) if is_tag]
            rows.append((file.name, tags, prediction.probabilities))
        if on_progress is not None:
            on_progress(done, len(files))
    write = _csv_text if output_format == "csv" else _json_text
    return Predicted(write(model.labels, rows) if rows else "", len(files), unreadable)


def _expanded(argument: str, *, is_alone: bool) -> Iterator[ImageFile]:
    path = Path(argument)
    if path.is_dir():
        for name in sorted(image_files(path)):
            # Below the folder that was named; nothing that a link in it leads to.
            if not (path / name).is_symlink():
                yield ImageFile(name if is_alone else str(path / name), path / name)
    elif path.is_file():
        yield ImageFile(argument, path)
    else:
        for name in sorted(glob.glob(argument, recursive=True)):  # noqa: PTH207 - may be absolute
            if Path(name).is_file() and Path(name).suffix.lower() in EXTENSIONS:
                yield ImageFile(name, Path(name))


def _nothing(argument: str) -> str:
    if Path(argument).is_dir():
        return f"{argument}: no images in this folder; expected {', '.join(EXTENSIONS)}"
    if glob.has_magic(argument):
        return f"{argument}: no image matches; expected {', '.join(EXTENSIONS)}"
    return f"{argument}: no such file or folder"


def _csv_text(labels: Sequence[str], rows: Sequence[tuple[str, list[str], list[float]]]) -> str:
    """A label file with the probabilities beside the tags."""
    separator = next((mark for mark in SEPARATORS if not any(mark in name for name in labels)), "|")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([NAME_COLUMN, TAGS_COLUMN, *(f"p_{label}" for label in labels)])
    for name, tags, probabilities in rows:
        writer.writerow([name, separator.join(tags), *(f"{p:.6g}" for p in probabilities)])
    return text.getvalue()


def _json_text(labels: Sequence[str], rows: Sequence[tuple[str, list[str], list[float]]]) -> str:
    document: list[dict[str, Any]] = [
        {
            NAME_COLUMN: name,
            TAGS_COLUMN: tags,
            "probabilities": dict(zip(labels, probabilities, strict=True)),
        }
        for name, tags, probabilities in rows
    ]
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
