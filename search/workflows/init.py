"""``canopy init``: examines a label file and a folder, and writes a first configuration."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import torch

from canopy_search.dashboards.contact_sheet.page import contact_sheet_html
from canopy_search.filestore.atomic import write_atomically
from canopy_search.filestore.urls import Source
from canopy_search.filestore.user_files import is_broken_link, real_path
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
from canopy_search.training.data.dataset import Dataset, data_sources, open_dataset
from canopy_search.training.data.files.sources import (
    ImageFile,
    Images,
    RemoteFile,
    broken_link_text,
    opened_images,
)
from canopy_search.training.data.images.conversion import Conversion
from canopy_search.training.data.images.skipped import check_skipped
from canopy_search.training.data.labels.columns import Given, guess_columns, none_word
from canopy_search.training.data.labels.label_file import (
    GROUP_COLUMN,
    SPLIT_COLUMN,
    LabelTable,
    label_table,
)
from canopy_search.training.data.labels.locating import locate_images
from canopy_search.training.data.labels.names import images_below
from canopy_search.training.data.labels.parts import PART_WORDS, Values, lists_beside
from canopy_search.training.data.labels.rows import LabelRows
from canopy_search.training.data.labels.targets import has_exclusive_labels
from canopy_search.training.data.layouts.parquet import WITH_IMAGES
from canopy_search.training.data.layouts.recognise import read_rows
from canopy_search.training.data.survey import FileSurvey, survey_files
from canopy_search.training.errors import ImageError, listed, unknown_name_message
from canopy_search.training.network.backbones import check_weights, published_weights
from canopy_search.training.network.pretrained import BRING_WEIGHTS, unavailable
from canopy_search.training.network.weights_files import weights_identity
from canopy_search.training.settings import Augmentation, DataSettings, Part, SplitSettings


@dataclass(frozen=True)
class Wishes:
    """The user's requests for the configuration; None means the value that fits the data.

    Attributes:
        output: the file to write.
        force: replace the file if it exists.
        columns: columns of the label file.
        allow_missing: write it even if many images cannot be used.
        follow_links: symbolic links below the folder of images may point outside of it.
        image_px: side of the square, in pixels.
        augment: random flips and turns.
        bands: the bands for red, green and blue, or one.
        epochs: epochs of a full run.
        backbones: backbones to search.
        weights: to start from.
    """

    output: Path
    force: bool
    columns: Given
    allow_missing: bool
    follow_links: bool
    image_px: int | None
    augment: tuple[Augmentation, ...]
    bands: tuple[int, ...] | None
    epochs: int | None
    backbones: tuple[str, ...]
    weights: str | None


@dataclass(frozen=True, eq=False)
class Examination:
    """Everything that `canopy init` found in a data set.

    Attributes:
        table: the whole label file.
        files: summary of the image headers.
        unnamed: image files that the label file does not name.
        dataset: the data that a search with this configuration would use.
        data: the settings that were detected.
        output: the configuration that was written.
        sheet: the contact sheet that was written.
        has_gpu: whether this machine has a GPU.
        weights: the proposed weights, and why or why not others.
    """

    table: LabelTable
    files: FileSurvey
    unnamed: tuple[str, ...]
    dataset: Dataset
    data: DataSettings
    output: Path
    sheet: Path
    has_gpu: bool
    weights: str


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


def check_bands(text: str | None) -> tuple[int, ...] | None:
    """Returns the bands in a text such as ``3,2,1``.

    Raises:
        ConfigError: it names neither three bands nor one.
    """
    if text is None:
        return None
    bands = [part.strip() for part in text.split(",")]
    if len(bands) not in {1, 3} or not all(re.fullmatch("[1-9][0-9]{0,3}", band) for band in bands):
        raise ConfigError(
            "--bands: expected the bands for red, green and blue, such as 3,2,1, or one, counted "
            f"from 1, found {text!r}"
        )
    return tuple(map(int, bands))


def check_split_values(texts: Sequence[str]) -> Values | None:
    """Returns part → values of the split column, from texts such as ``test=3,4``.

    Raises:
        ConfigError: a text names no part or no value.
    """
    values: Values = {}
    known = {part: part for part in get_args(Part)}
    for text in texts:
        name, _, listed_values = text.partition("=")
        part = known.get(PART_WORDS.get(name.strip().lower(), ""))
        found = tuple(value.strip() for value in listed_values.split(",") if value.strip())
        if part is None or not found:
            raise ConfigError(
                f"--split-values: expected a part and its values, such as test=3,4, found {text!r}"
            )
        values[part] = values.get(part, ()) + found
    return values or None


def initialize(
    labels: Source | None, images: Source | None, wishes: Wishes, home: Path, progress: Progress
) -> Examination:
    """Examines the data and writes a configuration that fits, and a contact sheet.

    Images are decoded at the chosen size, so the search can use the cache.

    Args:
        labels: the label file or its folder, or its URL; None if the images' folders are labels.
        images: the folder of images, or its URL; None if the label file or folder contains them.
        wishes: the user's requests.
        home: the state folder.
        progress: called during the slow parts.

    Raises:
        ConfigError: the configuration already exists, or data is not named.
        TrainingError: the data cannot be used as it is: nothing is written then.
    """
    if wishes.output.exists() and not wishes.force:
        raise ConfigError(
            f"{wishes.output}: already exists; replace it with --force, or choose another name "
            "with --output"
        )
    backbones = wishes.backbones or tuple(MISSION_SPACE["backbone"])
    for backbone in backbones:
        check_weights(backbone, wishes.weights or "none")
    weights_identity(wishes.weights or "none")  # reads a file, so that a missing one is named
    labels = labels or images
    if labels is None:
        raise ConfigError("no data; name a label file with --labels and a folder with --images")
    rows = read_rows(labels, follow_links=wishes.follow_links)
    images = _images(rows, labels, images)
    data = DataSettings.model_construct(
        labels=labels,
        images=images,
        layout="auto" if rows.name == "table" else rows.name,
        augment=wishes.augment,
        bands=wishes.bands,
        allow_missing=wishes.allow_missing,
        follow_links=wishes.follow_links,
    )
    _, folder_of_images = data_sources(data, home, progress)
    if isinstance(folder_of_images, Path) and not folder_of_images.is_dir():
        if isinstance(images, Path) and images.is_symlink():
            raise ImageError(f"--images: {broken_link_text(images)}")
        raise ImageError(f"{images}: no such folder of images; check --images")
    with opened_images(folder_of_images) as folder:
        data = _recognised(rows, folder, data, wishes.columns)
        table = label_table(rows, data)
        located = locate_images(table, folder, follow_links=wishes.follow_links)
        check_skipped(
            located.skipped, len(table.image_names), labels, allow_missing=wishes.allow_missing
        )
        files = survey_files(located.paths, lambda done, total: progress("looking", done, total))
        unnamed = _unnamed(folder, located.paths, follow_links=wishes.follow_links)
    has_gpu = torch.cuda.device_count() > 0 or torch.backends.mps.is_available()
    image_px = wishes.image_px or fitting_image_px(files.median_side_px, has_gpu=has_gpu)
    data = data.model_copy(update={"image_px": image_px})
    dataset = open_dataset(data, home, progress)
    data = _with_conversion(data, dataset.conversion)
    train_images = len(dataset.split.train)
    weights, why = wishes.weights, "as --weights says"
    if weights is None:
        weights, why = _weights(backbones)
    choices = Choices(
        data=data,
        is_split_by_user=table.parts is not None,
        draws_validation=table.parts is None or "validation" not in table.parts,
        not_used=_not_used(rows, data.split),
        is_exclusive=has_exclusive_labels(dataset.targets),
        epochs=wishes.epochs or fitting_epochs(train_images),
        batch_size=fitting_batch_size(train_images),
        study=_study_name(labels, images or labels),
        backbones=backbones,
        weights=weights,
    )
    _write_checked(wishes.output, config_text(choices, wishes.output.parent))
    # In the state folder, which nobody publishes with the configuration.
    sheet = home / "contact_sheet.html"
    write_atomically(sheet, contact_sheet_html(dataset, table, unnamed).encode())
    return Examination(
        table=table,
        files=files,
        unnamed=unnamed,
        dataset=dataset,
        data=data,
        output=wishes.output,
        sheet=sheet,
        has_gpu=has_gpu,
        weights=f"{weights}: {why}",
    )


def _weights(backbones: Sequence[str]) -> tuple[str, str]:
    """Returns the starting weights to propose, and why.

    Published weights are proposed if each of the backbones has some, on this machine or where this
    machine can download them.
    """
    published = {backbone: published_weights(backbone) for backbone in backbones}
    without = [backbone for backbone, file in published.items() if file is None]
    if without:
        return "none", f"no weights are published for {listed(without)}"
    missing = unavailable([file for file in published.values() if file is not None])
    for backbone, file in published.items():
        if file in missing:
            return "none", f"{backbone}: {file.url}: {missing[file]}; {BRING_WEIGHTS}"
    return "imagenet", f"published weights of {listed(backbones)}, with a lower learning rate"


def _images(rows: LabelRows, labels: Source, images: Source | None) -> Source | None:
    """Returns the folder of images, None if the label file contains them.

    Raises:
        ConfigError: it is not named.
    """
    if rows.layout.endswith(WITH_IMAGES):
        return None if images == labels else images
    is_folder = labels.is_dir() if isinstance(labels, Path) else rows.name == "class_folders"
    if images is None and not is_folder:
        raise ConfigError(f"{labels}: {rows.layout}; name the folder of images with --images")
    return images or labels


def _recognised(rows: LabelRows, folder: Images, data: DataSettings, given: Given) -> DataSettings:
    """Returns the settings with everything that is recognised in the label file."""
    guess = guess_columns(rows, folder, given, follow_links=data.follow_links)
    split = guess.split
    if split.column is None and given.split is None and isinstance(data.labels, Path):
        lists: dict[str, Any] = dict(lists_beside(data.labels).items())
        split = split.model_copy(update=lists)
    data = data.model_copy(update={"columns": guess.columns, "split": split})
    return data.model_copy(update={"none": none_word(label_table(rows, data))})


def _with_conversion(data: DataSettings, conversion: Conversion) -> DataSettings:
    """Returns the settings with what was decided about the images' values."""
    decided = {"range": conversion.range, "background": conversion.background}
    return data.model_copy(update={key: value for key, value in decided.items() if value})


def _not_used(rows: LabelRows, split: SplitSettings) -> tuple[str, ...]:
    """Returns the keys of the split that a search would take from a usual column, but must not."""
    columns = {"column": (split.column, SPLIT_COLUMN), "group": (split.group, GROUP_COLUMN)}
    return tuple(
        key
        for key, (used, usual) in columns.items()
        if used is None and usual in rows.columns and not (key == "column" and split.lists)
    )


def _unnamed(images: Images, paths: Sequence[ImageFile], *, follow_links: bool) -> tuple[str, ...]:
    """Returns the image files that the label file does not name, without broken links."""
    files = images_below(images, follow_links=follow_links).files
    named = set(paths)
    others = [
        name
        for name, file in files.items()
        if file not in named and (isinstance(file, RemoteFile) or not is_broken_link(file))
    ]
    return tuple(sorted(others))


def _study_name(labels: Source, images: Source) -> str:
    """The name of the folder with labels and images in it, if it is a valid study name."""
    file, folder = (
        real_path(each) if isinstance(each, Path) else PurePosixPath(each)
        for each in (labels, images)
    )
    try:
        return check_study_name((folder if file.is_relative_to(folder) else folder.parent).name)
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
