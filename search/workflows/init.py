"""From a label file and a folder to a report about the data and a first configuration."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import get_args

import torch

from canopy_search.filestore.urls import Source
from canopy_search.search.config.settings import MISSION_SPACE, check_study_name
from canopy_search.search.config.template import (
    Choices,
    config_text,
    fitting_batch_size,
    fitting_epochs,
    fitting_image_px,
)
from canopy_search.search.errors import ConfigError
from canopy_search.search.study.configuration import load_config
from canopy_search.training.atomic import write_atomically
from canopy_search.training.data.cache.reading import Progress
from canopy_search.training.data.dataset import Dataset, open_dataset
from canopy_search.training.data.files.sources import ImageFile, Images, RemoteFolder, opened_images
from canopy_search.training.data.images.skipped import TOLERATED
from canopy_search.training.data.labels.columns import Given, Guess, guess_columns, image_files
from canopy_search.training.data.labels.label_file import LabelTable, label_table
from canopy_search.training.data.labels.locating import locate_images
from canopy_search.training.data.labels.rows import read_rows
from canopy_search.training.data.survey import FileSurvey, survey_files
from canopy_search.training.errors import ImageError, unknown_name_message
from canopy_search.training.network.backbones import check_backbone
from canopy_search.training.settings import Augmentation, DataSettings, SplitSettings


@dataclass(frozen=True)
class Wishes:
    """What the user asks of the configuration; None is for what fits the data.

    Attributes:
        output: the file to write.
        force: replace it if it exists.
        columns: of the label file.
        image_px: side of the square.
        augment: random flips and turns.
        epochs: of a full run.
        backbones: to search.
    """

    output: Path
    force: bool
    columns: Given
    image_px: int | None
    augment: tuple[Augmentation, ...]
    epochs: int | None
    backbones: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Examination:
    """Everything that was found out about a data set.

    Attributes:
        table: the label file, all of it.
        files: what the headers of the images say.
        unnamed: image files that the label file does not name.
        dataset: what a search with this configuration would use.
        guess: the columns.
        output: the configuration that was written.
        has_gpu: whether this machine has one.
    """

    table: LabelTable
    files: FileSurvey
    unnamed: int
    dataset: Dataset
    guess: Guess
    output: Path
    has_gpu: bool


def check_augment(names: Sequence[str]) -> tuple[Augmentation, ...]:
    """Returns the augmentations of these names; commas may stand between them.

    Raises:
        ConfigError: there is none of that name.
    """
    chosen = [name.strip() for text in names for name in text.split(",")]
    known = {name: name for name in get_args(Augmentation)}
    for name in chosen:
        if name not in known:
            raise ConfigError(f"--augment: {unknown_name_message('augmentation', name, known)}")
    return tuple(known[name] for name in chosen)


def initialize(
    labels: Source, images: Source, wishes: Wishes, home: Path, progress: Progress
) -> Examination:
    """Looks at the data and writes a configuration that fits.

    Images are decoded at the chosen size, so the search finds its cache ready.

    Args:
        labels: the label file, or its URL.
        images: the folder of images, likewise.
        wishes: what the user asks for.
        home: the state folder.
        progress: is told about the slow parts.

    Raises:
        ConfigError: the configuration exists already.
        TrainingError: the data cannot be used at all.
    """
    if wishes.output.exists() and not wishes.force:
        raise ConfigError(
            f"{wishes.output}: exists already; replace it with --force, or choose another name "
            "with --output"
        )
    for backbone in wishes.backbones:
        check_backbone(backbone)
    rows = read_rows(labels)
    if isinstance(images, Path) and not images.is_dir():
        raise ImageError(f"{images}: no such folder of images; check --images")
    with opened_images(images) as folder:
        guess = guess_columns(rows, folder, wishes.columns)
        split = SplitSettings(column=guess.split, group=guess.group)
        table = label_table(rows, guess.columns, split)
        located = locate_images(table, folder)
        files = survey_files(located.paths, lambda done, total: progress("looking", done, total))
        unnamed = _unnamed(folder, located.paths)
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    image_px = wishes.image_px or fitting_image_px(files.median_side_px, has_gpu=has_gpu)
    dataset = open_dataset(
        DataSettings(
            labels=labels,
            images=images,
            columns=guess.columns,
            image_px=image_px,
            split=split,
            augment=wishes.augment,
            allow_missing=True,
        ),
        home,
        progress,
    )
    train_images = len(dataset.split.train)
    choices = Choices(
        labels=labels,
        images=images,
        guess=guess,
        image_px=image_px,
        augment=wishes.augment,
        allow_missing=len(dataset.skipped) > TOLERATED * len(table.image_names),
        epochs=wishes.epochs or fitting_epochs(train_images),
        batch_size=fitting_batch_size(train_images),
        study=_study_name(images),
        backbones=wishes.backbones or tuple(MISSION_SPACE["backbone"]),
    )
    _write_checked(wishes.output, config_text(choices, wishes.output.parent))
    return Examination(
        table=table,
        files=files,
        unnamed=unnamed,
        dataset=dataset,
        guess=guess,
        output=wishes.output,
        has_gpu=has_gpu,
    )


def _unnamed(images: Images, paths: Sequence[ImageFile]) -> int:
    """Number of image files that the label file does not name; links to nowhere are none."""
    if isinstance(images, RemoteFolder):
        return len(set(image_files(images)) - {getattr(path, "path", "") for path in paths})
    inside = [path for path in paths if isinstance(path, Path)]
    named = {path.relative_to(images.resolve()).as_posix() for path in inside}
    return sum(name not in named and (images / name).exists() for name in image_files(images))


def _study_name(images: Source) -> str:
    """The name of the folder around the images, if a study can be called so."""
    folder = images.resolve() if isinstance(images, Path) else PurePosixPath(images)
    try:
        return check_study_name(folder.parent.name)
    except ValueError:
        return "canopy"


def _write_checked(output: Path, text: str) -> None:
    """Writes a configuration if it can be read again.

    Raises:
        ConfigError: it cannot, such as for a column whose name no YAML of ours may hold.
    """
    draft = output.with_name(f".{output.name}.draft")
    try:
        write_atomically(draft, text.encode())
        load_config(draft)
        draft.replace(output)
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(draft), str(output))) from error
    finally:
        draft.unlink(missing_ok=True)
