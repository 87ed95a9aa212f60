"""The settings of one training run, checked and frozen.

This module holds everything that can change the numbers of a run, and nothing about searches. Two
settings change only its speed and memory: `TrainingSettings.device_cache` and
`TrainingSettings.gradient_checkpointing`. The YAML keys of ``canopy.yaml`` under ``data`` and
``training`` are these fields.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from canopy_search.filestore.errors import FileStoreUrlError
from canopy_search.filestore.urls import Source, source_of

Augmentation = Literal["hflip", "vflip", "rot90"]
Part = Literal["train", "validation", "test"]
LayoutName = Literal[
    "table", "class_folders", "celeba", "chexpert", "coco", "voc", "open_images", "parquet_folder"
]

Range = tuple[float, float]
Colour = tuple[int, int, int]

EXCLUSIVE_LOSS = "cross_entropy"
"""The loss of a network whose probabilities of all labels sum to 1."""

NAME_COLUMN = "image_name"
TAGS_COLUMN = "tags"


PUBLISHED_WEIGHTS = ("none", "imagenet")
"""Values of ``training.weights`` that are no file."""
SAFETENSORS = ".safetensors"
_WEIGHTS_FILES = (SAFETENSORS, ".pth", ".pt")


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys, no silent type conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _checked_source(value: Any) -> Source:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("path_type", "Input is not a valid path")
    try:
        return source_of(value)
    except FileStoreUrlError as error:
        raise ValueError(str(error)) from error


SourceSetting = Annotated[Source, PlainValidator(_checked_source)]
"""A path, or a URL without secrets; a URL stays text, because a path would lose its slashes."""


def _checked_list(value: Any) -> Source:
    # A number in quotes is a fraction that was meant as a number, not the name of a file.
    if not isinstance(value, Path) and not any(map(str.isalpha, str(value))):
        raise PydanticCustomError("path_type", "Input is not a valid path")
    return _checked_source(value)


ListSetting = Annotated[Source, PlainValidator(_checked_list)]
"""A text file with the name of an image in each line."""


def is_weights_file(weights: str) -> bool:
    """Whether a value of ``training.weights`` is the path or URL of a file."""
    return weights not in PUBLISHED_WEIGHTS


def _checked_weights(value: str) -> str:
    if not is_weights_file(value):
        return value
    if PurePosixPath(value).suffix.lower() not in _WEIGHTS_FILES:
        raise ValueError(
            f"expected none, imagenet or a weights file ({', '.join(_WEIGHTS_FILES)}), found "
            f"{value[:80]!r}; correct it"
        )
    _checked_source(value)
    return value


WeightsSetting = Annotated[str, AfterValidator(_checked_weights)]
"""``none``, ``imagenet``, or the path or URL of a weights file."""


_VALIDATION_SHARE = 0.15


class SplitSettings(Settings):
    """Which images are held out: by the user's own column or lists, or by fractions at random.

    Attributes:
        validation: fraction of the images, or a text file with their names. If the user's own split
            names no image for validation, this fraction of its training images is drawn.
        test: fraction of the images, 0 for no test split; or a text file with their names.
        train: a text file with their names; None for the images that no other list names.
        seed: of the stratified split.
        column: the label file's column with train, validation or test. ``auto`` is a column named
            ``split`` if there is one, and no list.
        values: part → the column's values for it, if they are others than train, validation, test.
        group: the label file's column of groups; images of one group stay in one part. ``auto`` is
            a column named ``group`` if there is one.
    """

    validation: Annotated[float, Field(gt=0, lt=1)] | ListSetting = _VALIDATION_SHARE
    test: Annotated[float, Field(ge=0, lt=1)] | ListSetting = 0.15
    train: ListSetting | None = None
    seed: int = 0
    column: str | None = "auto"
    values: dict[Part, Annotated[tuple[str | int | bool, ...], Field(strict=False)]] | None = None
    group: str | None = "auto"

    @property
    def validation_share(self) -> float:
        """Fraction of the images, or of the training images, that is drawn for validation."""
        return self.validation if isinstance(self.validation, float) else _VALIDATION_SHARE

    @property
    def test_share(self) -> float:
        """Fraction of the images that is drawn for test."""
        return self.test if isinstance(self.test, float) else 0.0

    @property
    def lists(self) -> dict[Part, Source]:
        """Part → the text file that names its images."""
        named: dict[Part, Any] = {
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
        }
        return {part: list_ for part, list_ in named.items() if isinstance(list_, Path | str)}

    @model_validator(mode="after")
    def _has_one_origin(self) -> "SplitSettings":
        if self.lists and self.column not in {None, "auto"}:
            raise ValueError(
                f"column and the list for {min(self.lists)} exclude each other; remove one of them"
            )
        return self

    @model_validator(mode="after")
    def _leaves_training_images(self) -> "SplitSettings":
        if self.lists:
            return self
        if self.validation_share + self.test_share >= 1:
            raise ValueError(
                f"validation {self.validation} and test {self.test} leave nothing to train on; "
                "their sum must stay below 1"
            )
        return self


class ColumnSettings(Settings):
    """Names of the label file's columns.

    Attributes:
        image: the column of image names.
        tags: the column with all tags of an image.
        labels: columns of 0 and 1, one per label, in place of tags. None: all columns except image,
            split and group, if the file has no column of tags.
        separator: between two tags; ``auto`` is the one of ``|``, ``;`` and ``,`` that occurs, else
            white space.
        uncertain: what -1 means in columns of 0 and 1. None: such a cell is an error.
        blank: what an empty cell means in columns of 0 and 1, likewise. An ignored cell leaves the
            loss, the metrics and the stratification alone.
    """

    image: str = NAME_COLUMN
    tags: str = TAGS_COLUMN
    labels: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    separator: Literal["auto", "space", ",", ";", "|"] = "auto"
    uncertain: Literal["zero", "one", "ignore"] | None = None
    blank: Literal["zero", "ignore"] | None = None


_MOST_BANDS = 2**16
_LARGEST = 1e300
_COLOURS: dict[str, Colour] = {"white": (255, 255, 255), "black": (0, 0, 0)}


def _checked_bands(value: Any) -> tuple[int, ...]:
    bands = value if isinstance(value, list | tuple) else [value]
    if len(bands) not in {1, 3} or not _are_whole(bands, 1, _MOST_BANDS):
        raise PydanticCustomError("bands_type", "Input is not one or three bands")
    return tuple(bands)


def _checked_range(value: Any) -> Range | Literal["auto"]:
    if value == "auto":
        return "auto"
    match value:
        case [int() | float() as low, int() | float() as high] if (
            -_LARGEST <= low < high <= _LARGEST and not isinstance(low, bool)
        ):
            return float(low), float(high)
    raise PydanticCustomError("range_type", "Input is not a range of values")


def _checked_colour(value: Any) -> Colour | Literal["auto", "none"]:
    if value == "none":
        return "none"
    if value == "auto":
        return "auto"
    levels = _COLOURS.get(value) if isinstance(value, str) else value
    if not isinstance(levels, list | tuple) or len(levels) != 3 or not _are_whole(levels, 0, 255):
        raise PydanticCustomError("colour_type", "Input is not a colour")
    return levels[0], levels[1], levels[2]


def _are_whole(numbers: Sequence[Any], low: int, high: int) -> bool:
    return all(type(number) is int and low <= number <= high for number in numbers)


Bands = Annotated[tuple[int, ...], BeforeValidator(_checked_bands)]
"""Three bands or one, counted from 1."""
RangeSetting = Annotated[Range | Literal["auto"], BeforeValidator(_checked_range)]
"""The pixel values of black and white."""
ColourSetting = Annotated[Colour | Literal["auto", "none"], BeforeValidator(_checked_colour)]
"""Red, green and blue, from 0 to 255."""


class DataSettings(Settings):
    """Where the images and labels are and how they are prepared.

    Attributes:
        demo: the built-in demo set in place of `labels` and `images`.
        labels: the label file, or the folder of a layout that has several; a path, or a URL as
            text.
        images: the folder of image files, a path, or a URL as text; None if the label file itself
            contains the images.
        layout: how images and labels are published; ``auto`` recognises it by content.
        columns: names of the label file's columns.
        none: a word among the labels that means no label, such as ``No Finding``.
        image_px: side of the square that every image is scaled to.
        bands: the bands for red, green and blue, or a single one, counted from 1; None for the
            file's own colours.
        range: the values that become black and white in every image. ``auto`` keeps 8 bits as they
            are and takes percentiles of some images for more bits.
        background: the colour behind transparent pixels; ``none`` uses the colours stored there.
            ``auto`` is white, except for TIFF, whose fourth band is often infrared.
        split: which images are held out.
        augment: random flips and quarter turns of the training images.
        allow_missing: continue however many images are missing or damaged; otherwise more than 1 %
            is an error.
        follow_links: whether symbolic links below `images` may point outside of it, to folders too.
    """

    demo: Literal["digits"] | None = None
    labels: SourceSetting | None = None
    images: SourceSetting | None = None
    layout: Literal["auto"] | LayoutName = "auto"
    columns: ColumnSettings = ColumnSettings()
    none: Annotated[str, Field(min_length=1)] | None = None
    image_px: Annotated[int, Field(ge=8, le=2048)] = 128
    bands: Bands | None = None
    range: RangeSetting = "auto"
    background: ColourSetting = "auto"
    split: SplitSettings = SplitSettings()
    augment: Annotated[tuple[Augmentation, ...], Field(strict=False)] = ()
    allow_missing: bool = False
    follow_links: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> "DataSettings":
        named = [key for key in ("labels", "images") if getattr(self, key) is not None]
        if self.demo and named:
            raise ValueError(f"demo and {named[0]} exclude each other; remove one of them")
        contains_images = self.layout == "parquet_folder" or str(self.labels).endswith(".parquet")
        if not self.demo and len(named) < 2 and not (named == ["labels"] and contains_images):
            missing = ({"labels", "images"} - set(named)).pop() if named else "labels and images"
            raise ValueError(f"{missing} missing; name the label file and the folder of images")
        return self


class OptimizerSettings(Settings):
    """The optimizer. Only SGD reads `momentum`.

    Attributes:
        name: of the optimizer, see `training.optimization.optimizers`.
        lr: learning rate, which `ScheduleSettings` changes.
        weight_decay: of `name`.
        momentum: of SGD.
        decay_norms_and_biases: whether weight decay also applies to the weights of normalisation
            layers and to biases, which are the parameters of one dimension.
    """

    name: str = "adam"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    decay_norms_and_biases: bool = True

    @property
    def excludes_from_decay(self) -> bool:
        """Whether some parameters have no weight decay, and others have."""
        return self.weight_decay > 0 and not self.decay_norms_and_biases


class ScheduleSettings(Settings):
    """How the learning rate changes during a run; see `training.optimization.schedules`.

    Attributes:
        name: ``exponential`` follows `TrainingSettings.gamma`, epoch by epoch; ``cosine``,
            ``one_cycle`` and ``wsd`` (warm-up, stable, decay) fall step by step.
        warmup_epochs: epochs, or a fraction of one, in which the rate rises, step by step.
        decay_epochs: last epochs of the run, in which the rate of ``wsd`` falls.
        final_factor: factor to which the rate of ``cosine``, ``one_cycle`` and ``wsd`` falls.
    """

    name: Literal["constant", "exponential", "cosine", "one_cycle", "wsd"] = "exponential"
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    decay_epochs: Annotated[float, Field(ge=0)] = 4.0
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.01


class FocalSettings(Settings):
    """Parameters of the focal loss (Lin et al. 2017); `alpha` weighs positives, -1 weighs none."""

    alpha: Annotated[float, Field(ge=-1, le=1)] = 0.25
    gamma: Annotated[float, Field(ge=0)] = 2.0


class AsymmetricSettings(Settings):
    """Parameters of the asymmetric loss (Ridnik et al. 2021), with the paper's defaults."""

    gamma_negative: Annotated[float, Field(ge=0)] = 4.0
    gamma_positive: Annotated[float, Field(ge=0)] = 1.0
    clip: Annotated[float, Field(ge=0, lt=1)] = 0.05


_FromOne = Annotated[int, Field(ge=1)]
_Split = Annotated[tuple[_FromOne, _FromOne], Field(strict=False)]


class TrainingSettings(Settings):
    """One training run.

    Attributes:
        epochs: number of epochs of a complete run.
        batch_size: images per optimizer step; batches of an epoch have nearly this size.
        backbone: name of a network, see `training.network.backbones`.
        weights: ``imagenet`` starts from the weights published for the network (a download); the
            path or URL of a file from those that fit, with a new head.
        loss: name of a loss, see `training.optimization.losses`.
        gamma: ExponentialLR's factor per epoch; 1.0 is a constant rate.
        schedule: how the learning rate changes; `gamma` belongs to ``exponential``.
        ema: decay per step of the average of all weights, which is validated and kept; None
            validates and keeps the weights themselves.
        head_lr_factor: factor of the head's learning rate.
        layer_decay: factor of a layer's learning rate from each layer to the one before it.
        freeze_epochs: first epochs, in which only the head is trained.
        head_bias: ``priors`` starts the head's biases at the log-odds of the training labels.
        clip_norm: largest norm of the gradient; None does not clip.
        precision: ``auto`` is the fastest on the device that does not lower AP.
        device: ``auto`` is the first GPU, else the CPU.
        threads: CPU threads; their number changes the last bits of results on the CPU.
        seed: of weights, shuffling, augmentation and dropout.
        deterministic: bit-for-bit reproducible on a GPU too, but slower.
        compile: whether ``torch.compile`` compiles the network; ``graphs`` also uses CUDA graphs.
            ``auto`` compiles on a GPU if a run has enough steps before it may pause, without
            graphs.
        gradient_checkpointing: whether the backward pass computes the network's blocks again, which
            changes no number: less memory, about a third more time.
        device_cache: whether the images are kept in the device's memory, which changes no number;
            ``auto`` keeps them on a GPU if they fit in a quarter of its free memory, divided by the
            workers that share it.
        accumulation: pairs of an epoch, counted from 1, and the number of parts into which each
            batch is split from that epoch on, to need less memory; batch normalisation and dropout
            then give other numbers. A run whose memory runs out splits its batches itself.
    """

    epochs: Annotated[int, Field(ge=1)] = 8
    batch_size: Annotated[int, Field(ge=1)] = 64
    backbone: str = "resnet18"
    weights: WeightsSetting = "none"
    loss: str = "bce"
    focal: FocalSettings = FocalSettings()
    asymmetric: AsymmetricSettings = AsymmetricSettings()
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    schedule: ScheduleSettings = ScheduleSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    head_lr_factor: Annotated[float, Field(gt=0)] = 1.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    freeze_epochs: Annotated[int, Field(ge=0)] = 0
    head_bias: Literal["default", "priors"] = "default"
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    threads: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    seed: Annotated[int, Field(ge=0)] = 0
    deterministic: bool = False
    compile: Literal["auto", "off", "on", "graphs"] = "auto"
    gradient_checkpointing: bool = False
    device_cache: Literal["auto", "off", "on"] = "auto"
    accumulation: Annotated[tuple[_Split, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _has_one_schedule(self) -> "TrainingSettings":
        schedule = self.schedule
        if schedule.name != "exponential" and self.gamma != 1:
            raise ValueError(
                f"gamma {self.gamma:g} is for schedule.name exponential, found {schedule.name}; "
                "remove one of them"
            )
        if schedule.name == "one_cycle" and schedule.warmup_epochs == 0:
            raise ValueError("schedule.name one_cycle rises first; set schedule.warmup_epochs")
        changing = schedule.warmup_epochs
        names = f"schedule.warmup_epochs {schedule.warmup_epochs:g}"
        if schedule.name == "wsd":
            changing += schedule.decay_epochs
            names += f" and schedule.decay_epochs {schedule.decay_epochs:g}"
        if changing > self.epochs:
            raise ValueError(f"{names} take more than epochs {self.epochs}; shorten them")
        return self
