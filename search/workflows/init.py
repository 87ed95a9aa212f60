"""``canopy init``: examines a label file and a folder, and writes a first configuration."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import get_args

import torch

from canopy_search.filestore.atomic import write_atomically
from canopy_search.filestore.urls import Source
from canopy_search.filestore.user_files import real_path
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
    """The user's requests for the configuration; None means the value that fits the data.

    Attributes:
        output: the file to write.
        force: replace the file if it exists.
        columns: columns of the label file.
        image_px: side of the square, in pixels.
        augment: random flips and turns.
        epochs: epochs of a full run.
        backbones: backbones to search.
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
    """Everything that `canopy init` found in a data set.

    Attributes:
        table: the whole label file.
        files: summary of the image headers.
        unnamed: number of image files that the label file does not name.
        dataset: the data that a search with this configuration would use.
        guess: the guessed columns.
        output: the configuration that was written.
        has_gpu: whether this machine has a GPU.
    """

    table: LabelTable
    files: FileSurvey
    unnamed: int
    dataset: Dataset
    guess: Guess
    output: Path
    has_gpu: bool


def check_augment(names: Sequence[str]) -> tuple[Augmentation, ...]:
    """Returns the augmentations with these names, which may be separated by commas.

    Raises:
        ConfigError: there is no augmentation with that name.
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
    """Examines the data and writes a configuration that fits.

    Images are decoded at the chosen size, so the search can use the cache.

    Args:
        labels: the label file, or its URL.
        images: the folder of images, or its URL.
        wishes: the user's requests.
        home: the state folder.
        progress: called during the slow parts.

    Raises:
        ConfigError: the configuration already exists.
        TrainingError: the data cannot be used at all.
    """
    if wishes.output.exists() and not wishes.force:
        raise ConfigError(
            f"{wishes.output}: already exists; replace it with --force, or choose another name "
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
    has_gpu = torch.cuda.device_count() > 0 or torch.backends.mps.is_available()
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
    """Number of image files that the label file does not name, without broken links."""
    if isinstance(images, RemoteFolder):
        return len(set(image_files(images)) - {getattr(path, "path", "") for path in paths})
    inside = [path for path in paths if isinstance(path, Path)]
    named = {path.relative_to(real_path(images)).as_posix() for path in inside}
    return sum(name not in named and (images / name).exists() for name in image_files(images))


def _study_name(images: Source) -> str:
    """The name of the images' parent folder, if it is a valid study name."""
    folder = real_path(images) if isinstance(images, Path) else PurePosixPath(images)
    try:
        return check_study_name(folder.parent.name)
    except ValueError:
        return "canopy"


def _write_checked(output: Path, text: str) -> None:
    """Writes a configuration if it can be read again.

    Raises:
        ConfigError: it cannot be read, for example because of a column name that is not allowed.
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
