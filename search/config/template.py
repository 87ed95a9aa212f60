"""A first canopy.yaml for a data set: settings that fit it, with comments."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from canopy_search.filestore.urls import Source, source_of
from canopy_search.filestore.user_files import real_path
from canopy_search.search.config.settings import MISSION_SPACE
from canopy_search.search.config.yaml_file import flow_text
from canopy_search.storage.study.enqueued import FULL_KEY
from canopy_search.training.settings import (
    EXCLUSIVE_LOSS,
    ColumnSettings,
    DataSettings,
    is_weights_file,
)

# Sizes that networks can halve several times without a remainder.
IMAGE_SIZES_PX = (32, 48, 64, 96, 128, 160, 192, 224)
LARGEST_ON_CPU_PX = 64
LARGEST_BATCH = 64
SMALLEST_BATCH = 8
BATCHES_PER_EPOCH = 10
COMMENT_COLUMN = 60
RANDOM_WEIGHTS_LR = 1e-3
TRAINED_WEIGHTS_LR = 3e-4


@dataclass(frozen=True)
class Choices:
    """The settings of a new configuration.

    Attributes:
        data: the section ``data``.
        is_split_by_user: whether the label file or lists determine the split.
        draws_validation: whether validation images are drawn at random.
        not_used: keys of the split whose usual column exists and means something else.
        is_exclusive: whether every image has exactly one label.
        epochs: of a full run.
        batch_size: images in a batch.
        study: its name.
        backbones: to search.
        weights: to start from; a path is relative to the working folder.
    """

    data: DataSettings
    is_split_by_user: bool
    draws_validation: bool
    not_used: tuple[str, ...]
    is_exclusive: bool
    epochs: int
    batch_size: int
    study: str
    backbones: tuple[str, ...]
    weights: str


def fitting_image_px(median_side_px: int, *, has_gpu: bool) -> int:
    """Returns the image size: no larger than the images, and small on a machine without a GPU.

    Args:
        median_side_px: median of the images' shorter sides.
        has_gpu: whether the machine has a GPU; on a CPU, training time grows with the area.
    """
    largest = IMAGE_SIZES_PX[-1] if has_gpu else LARGEST_ON_CPU_PX
    fitting = [px for px in IMAGE_SIZES_PX if px <= min(largest, median_side_px)]
    return max(fitting, default=IMAGE_SIZES_PX[0])


def fitting_batch_size(train_images: int) -> int:
    """Returns the batch size: 64, or less if an epoch would have fewer than ten steps."""
    batch_size = LARGEST_BATCH
    while batch_size > SMALLEST_BATCH and train_images < BATCHES_PER_EPOCH * batch_size:
        batch_size //= 2
    return batch_size


def fitting_epochs(train_images: int) -> int:
    """Returns the number of epochs: with few images more epochs are needed, and each is cheap."""
    if train_images >= 5000:
        return 8
    return 12 if train_images >= 1000 else 20


def config_text(choices: Choices, folder: Path) -> str:
    """Returns the configuration.

    Args:
        choices: its settings.
        folder: folder of the configuration file; paths are written relative to it.
    """
    settings = choices.data
    data: list[tuple[str, Any, str]] = [
        (name, _path(source, folder), "")
        for name, source in (("labels", settings.labels), ("images", settings.images))
        if source is not None
    ]
    if settings.layout != "auto":
        data.append(("layout", settings.layout, "how the data is published"))
    data += _columns(settings.columns)
    if settings.none is not None:
        data.append(("none", settings.none, "a word that means no label"))
    data += _conversion(settings)
    data += [
        ("image_px", settings.image_px, "every image is scaled to this square"),
        ("split", _split(choices, folder), _split_comment(choices)),
        ("augment", list(settings.augment), "hflip, vflip, rot90 if they keep the labels valid"),
    ]
    if settings.allow_missing:
        data.append(("allow_missing", True, "some images cannot be used; they are skipped"))
    if settings.follow_links:
        data.append(("follow_links", True, "symbolic links may point outside of images"))
    # Larger steps would destroy what the network has learned.
    lr = RANDOM_WEIGHTS_LR if choices.weights == "none" else TRAINED_WEIGHTS_LR
    training: list[tuple[str, Any, str]] = [
        *[("loss", EXCLUSIVE_LOSS, "softmax: every image has exactly one label")]
        * choices.is_exclusive,
        ("epochs", choices.epochs, "of a full run; unpromising trials end earlier"),
        ("batch_size", choices.batch_size, ""),
        ("weights", _weights(choices.weights, folder), "none, imagenet (published ones) or a file"),
        ("optimizer", {"name": "adam", "lr": lr}, ""),
        ("seed", 0, ""),
    ]
    search = [
        ("study", choices.study, "its name in the database"),
        ("trials", 40, "total of finished trials, complete or pruned"),
        ("sampler", {"name": "tpe"}, ""),
        ("pruner", {"name": "branches"}, "pauses trials and promotes the best; or median, none"),
    ]
    space = MISSION_SPACE | {"backbone": list(choices.backbones)}
    first = {"backbone": choices.backbones[0], "loss": "bce", "gamma": 1.0, FULL_KEY: True}
    if choices.is_exclusive:
        space.pop("loss")
        first.pop("loss")
    space_lines = [(name, domain, "") for name, domain in space.items()]
    return "\n".join(
        [
            "# Written by `canopy init`; every key is explained in docs/configuration.md.",
            "# Check it with `canopy search --dry-run`, then: canopy search",
            "",
            "data:",
            *_lines(data, 2),
            "",
            "training:",
            *_lines(training, 2),
            "",
            "search:",
            *_lines(search, 2),
            "  space:",
            *_lines(space_lines, 4),
            "  enqueue:",
            f"    - {flow_text(first)}  # the baseline, never pruned",
            "",
        ]
    )


def _columns(columns: ColumnSettings) -> list[tuple[str, Any, str]]:
    """The line about columns, if they differ from the defaults."""
    named = columns.model_dump(mode="json", exclude_defaults=True)
    return [("columns", named, "of the label file")] if named else []


def _conversion(settings: DataSettings) -> list[tuple[str, Any, str]]:
    """The lines about bands and values of the images, if they differ from the defaults."""
    comments = {
        "bands": "for red, green and blue, or one; the first band is 1",
        "range": "pixel values that become black and white, in all images",
        "background": "behind transparent pixels",
    }
    named = settings.model_dump(mode="json", include=set(comments), exclude_defaults=True)
    if "range" in named:
        named["range"] = [int(each) if each.is_integer() else each for each in named["range"]]
    return [(key, named[key], comment) for key, comment in comments.items() if key in named]


def _split(choices: Choices, folder: Path) -> dict[str, Any]:
    """The split as it is written, with everything that must not be guessed again."""
    settings = choices.data.split
    split: dict[str, Any] = {part: _path(list_, folder) for part, list_ in settings.lists.items()}
    if settings.column is not None:
        split["column"] = settings.column
    if settings.values is not None:
        split["values"] = {part: list(values) for part, values in settings.values.items()}
    if choices.draws_validation:
        split["validation"] = settings.validation
        split |= {} if choices.is_split_by_user else {"test": settings.test}
        split["seed"] = settings.seed
    if settings.group is not None:
        split["group"] = settings.group
    return split | dict.fromkeys(choices.not_used)


def _split_comment(choices: Choices) -> str:
    together = "; a group stays in one part" if choices.data.split.group else ""
    if not choices.is_split_by_user:
        return "each label's share is kept" + together
    drawn = "; validation is drawn from train" + together if choices.draws_validation else ""
    return (
        "the published lists" if choices.data.split.lists else "the label file's own split"
    ) + drawn


def _weights(weights: str, folder: Path) -> str:
    """Starting weights as written in the configuration."""
    return _path(source_of(weights), folder) if is_weights_file(weights) else weights


def _path(path: Source, folder: Path) -> str:
    """A path as written in the configuration: relative, unless it is distant or a URL."""
    if isinstance(path, str):
        return path
    # A link stays a link: what it points to may be another file tomorrow, as after a dvc checkout.
    absolute = real_path(path.parent) / path.name
    relative = os.path.relpath(absolute, real_path(folder))
    return str(absolute) if relative.count("..") > 2 else relative


def _lines(entries: Sequence[tuple[str, Any, str]], indent: int) -> list[str]:
    lines = [
        (f"{' ' * indent}{key}: {flow_text(value)}", comment) for key, value, comment in entries
    ]
    commented = [len(line) for line, comment in lines if comment]
    width = max((length for length in commented if length <= COMMENT_COLUMN), default=0)
    return [f"{line:<{width}}  # {comment}" if comment else line for line, comment in lines]
