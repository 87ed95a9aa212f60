"""Tags and probabilities of images, as CSV or JSON."""

import glob
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from canopy_search.filestore.atomic import check_writable
from canopy_search.filestore.csv_text import csv_text
from canopy_search.filestore.user_files import files_below, real_path
from canopy_search.search.config.quoting import shown_path
from canopy_search.search.errors import PredictionError
from canopy_search.training.data.images.decoding import EXTENSIONS, is_image_name
from canopy_search.training.data.layouts.parquet import parquet_files, unpacked_images
from canopy_search.training.network.model_file import TrainedModel
from canopy_search.training.prediction import Prediction, predict
from canopy_search.training.settings import NAME_COLUMN, TAGS_COLUMN

Format = Literal["csv", "json"]

MARKS = "|;,"
"""Characters that Canopy reads as a separator of tags anywhere in a label file."""

REASONS_SHOWN = 10


@dataclass(frozen=True)
class ImageFile:
    """An image to predict.

    Attributes:
        name: its name in the output: the path below the folder if the only argument is a folder;
            else the path as given, so that images of two folders stay distinct.
        path: the file.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Predicted:
    """The result of a prediction.

    Attributes:
        text: the whole output; empty if no image could be read.
        images: number of requested images.
        unreadable: name and reason of each image that could not be read.
    """

    text: str
    images: int
    unreadable: list[tuple[str, str]]

    def unreadable_lines(self) -> list[str]:
        """Returns lines with the number of unreadable images and the first ten reasons."""
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


@dataclass(frozen=True)
class PredictionSettings:
    """How images are predicted.

    Attributes:
        thresholds: (labels,), the logit at and above which a label is a tag. Of exclusive labels,
            the one with the highest logit is the tag.
        output_format: format of the returned text.
        device: ``auto`` is the first GPU, else the CPU.
        batch_size: images at a time.
    """

    thresholds: npt.NDArray[np.float32]
    output_format: Format
    device: str
    batch_size: int


def predict_images(
    model: TrainedModel,
    files: Sequence[ImageFile],
    settings: PredictionSettings,
    on_progress: Callable[[int, int], None] | None = None,
) -> Predicted:
    """Predicts all images.

    Args:
        model: as returned by `load_model`.
        files: the images.
        settings: how.
        on_progress: called with (images done, images).

    Raises:
        PredictionError: no separator of tags works for these labels in a CSV.
        SettingsError: the device is unavailable.
    """
    output_format = settings.output_format
    separator = tag_separator(model.labels) if output_format == "csv" else ""
    rows: list[Row] = []
    unreadable: list[tuple[str, str]] = []
    predictions = predict(
        model,
        [file.path for file in files],
        device=settings.device,
        batch_size=settings.batch_size,
    )
    for done, (file, prediction) in enumerate(zip(files, predictions, strict=True), start=1):
        if prediction.logits is None:
            unreadable.append((file.name, prediction.reason))
        else:
            present = prediction.logits >= settings.thresholds
            if model.is_exclusive:
                present = np.arange(len(model.labels)) == prediction.logits.argmax()
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
        image_name: its name in the output.
        tags: its labels.
        prediction: its prediction, with the probabilities.
    """

    image_name: str
    tags: list[str]
    prediction: Prediction

    @property
    def probabilities(self) -> list[str]:
        """Six digits, about the precision of float32; the same in every format."""
        return [f"{p:.6g}" for p in self.prediction.probabilities]


def tag_separator(labels: Sequence[str]) -> str:
    """Returns a separator of tags with which Canopy reads the same tags again.

    It is a space, unless a label contains whitespace or one of `MARKS`; then it is the first of
    `MARKS` that occurs in no label.

    Raises:
        PredictionError: every one of `MARKS` occurs in a label.
    """
    text = "".join(labels)
    if not any(character in MARKS or character.isspace() for character in text):
        return " "
    for mark in MARKS:
        if mark not in text:
            return mark
    raise PredictionError(
        f"expected a tag separator that occurs in no label, found each of {' '.join(MARKS)} in "
        "the labels of the model; use --format json"
    )


def _csv_text(labels: Sequence[str], rows: Sequence[Row], separator: str) -> str:
    """A label file with the probabilities in columns after the tags."""
    columns = [NAME_COLUMN, TAGS_COLUMN, *(f"p_{label}" for label in labels)]
    cells = ([row.image_name, separator.join(row.tags), *row.probabilities] for row in rows)
    return csv_text([columns, *cells])


def _json_text(labels: Sequence[str], rows: Sequence[Row]) -> str:
    """One array with one line per image, so that grep and diff work on it."""
    document: list[dict[str, Any]] = [
        {
            NAME_COLUMN: row.image_name,
            TAGS_COLUMN: row.tags,
            "probabilities": dict(zip(labels, map(float, row.probabilities), strict=True)),
        }
        for row in rows
    ]
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in document) + "\n]\n"


def writable_output(output: Path, model: Path, files: Sequence[ImageFile]) -> Path:
    """Returns the file to replace: `output`, or what it points to if it is a link.

    Args:
        output: the path given on the command line.
        model: the model file.
        files: the images.

    Raises:
        PredictionError: `output` is a folder, a device, an image or the model.
        OSError: its folder cannot be created or written to.
    """
    target = real_path(output)
    if target.is_dir():
        raise _refusal(output, "found a folder; name a file in it")
    if target.exists() and not target.is_file():
        raise _refusal(output, "found a device or pipe; omit --output to write to standard output")
    if target.suffix.lower() in EXTENSIONS:
        # With `--output *.jpg` the first photograph would be overwritten.
        raise _refusal(
            output,
            "found the name of an image; write --output tags.csv, for example, then the globs",
        )
    # Only an image given as a file can have an extension that is not one of these.
    others = [file.path for file in files if file.path.suffix.lower() not in EXTENSIONS]
    if target.exists() and any(target.samefile(path) for path in (model, *others)):
        raise _refusal(output, "found an input of this command; name another file")
    check_writable(target)
    return target


def _refusal(output: Path, found: str) -> PredictionError:
    return PredictionError(f"--output {output}: expected a file for the predictions, {found}")


def find_images(
    arguments: Sequence[str], home: Path, *, follow_links: bool = False
) -> list[ImageFile]:
    """Returns the images that files, folders and globs select, each once, in order.

    Args:
        arguments: a file selects itself, whatever its extension; a folder selects the image files
            in and below it, sorted; a glob selects the image files that it matches, sorted, where
            ``**`` is any number of folders. A Parquet file, or a folder of them without image
            files, selects the images that it contains.
        home: the state folder, to which those are written.
        follow_links: whether symbolic links in a folder may point outside of it.

    Raises:
        PredictionError: an argument selects no image, or a link points outside and may not.
        LabelFileError: a Parquet file contains no images.
        OSError: a folder cannot be listed.
    """
    found: dict[tuple[Path, str], ImageFile] = {}
    folders: dict[Path, Path] = {}
    for argument in arguments:
        source = _unpacked(argument, home, follow_links=follow_links)
        is_alone = len(arguments) == 1
        images = list(_expanded(source, is_alone=is_alone, follow_links=follow_links))
        if not images:
            raise PredictionError(_nothing(argument))
        for image in images:
            parent = image.path.parent
            if parent not in folders:
                folders[parent] = real_path(parent)
            found.setdefault((folders[parent], image.path.name), image)
    return list(found.values())


def _unpacked(argument: str, home: Path, *, follow_links: bool) -> str:
    """Returns the argument, or the folder of the images that its Parquet files contain."""
    path = Path(argument)
    is_parquet = path.is_file() and path.suffix.lower() == ".parquet"
    if path.is_dir() and argument and parquet_files(path):
        is_parquet = not _images_below(path, follow_links=follow_links)
    return str(unpacked_images(path, home)) if is_parquet else argument


def _expanded(argument: str, *, is_alone: bool, follow_links: bool) -> Iterator[ImageFile]:
    path = Path(argument)
    if not argument:
        return  # an unset shell variable, which Path would take for the working folder
    if path.is_dir():
        for name in sorted(_images_below(path, follow_links=follow_links)):
            yield ImageFile(_shown(name if is_alone else (path / name).as_posix()), path / name)
    elif path.is_file():
        yield ImageFile(_shown(argument), path)
    else:
        for match in sorted(glob.glob(argument, recursive=True)):  # noqa: PTH207 - may be absolute
            if is_image_name(match) and Path(match).is_file():
                yield ImageFile(_shown(match), Path(match))


def _images_below(folder: Path, *, follow_links: bool) -> list[str]:
    """The image files in and below a folder, as paths relative to it."""
    below = files_below(folder, _raise, follow_links=follow_links)
    names = [name for name in below.names if is_image_name(name)]
    links = [*below.unfollowed, *(path for name in names if (path := folder / name).is_symlink())]
    outside = [link for link in links if not real_path(link).is_relative_to(real_path(folder))]
    if outside and not follow_links:
        raise PredictionError(
            f"{outside[0]} is a symbolic link that points outside {folder}, to "
            f"{real_path(outside[0])}; follow links with --follow-links, or name the files"
        )
    return names


def _raise(error: OSError) -> None:
    # Otherwise the images of that folder would be missing silently.
    raise error


def _shown(name: str) -> str:
    r"""The name as text that can be written, with ``\xff`` for a byte that is not UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _nothing(argument: str) -> str:
    known = f"expected {', '.join(EXTENSIONS)}"
    if not argument:
        return "an argument is empty; name image files, folders or quoted globs"
    if Path(argument).is_dir():
        return f"{argument}: no images in this folder; {known} in it or below"
    if glob.has_magic(argument):
        return f"{argument}: no image matches; {known}"
    if os.path.lexists(argument):
        return f"{argument}: expected an image file, found a device, a pipe or a broken link"
    return f"{argument}: no such file or folder; name image files, folders or quoted globs"
