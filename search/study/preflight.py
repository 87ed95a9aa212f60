"""Checks before the first trial: the data can rank trials, and the networks fit into memory."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, IntDistribution

from canopy_search.search.config.space import SearchSpace, setting, with_params
from canopy_search.search.events import Emit, Note, progress_to
from canopy_search.training.data.dataset import DataFacts, Dataset, open_dataset
from canopy_search.training.device.memory import StepMemory, step_memory
from canopy_search.training.errors import SplitError
from canopy_search.training.network.backbones import check_backbone_fits
from canopy_search.training.resolve import resolve_settings
from canopy_search.training.settings import DataSettings, TrainingSettings


def choices(space: SearchSpace, name: str) -> Sequence[Any]:
    """Returns every value that a categorical setting can have in the study."""
    distribution = space.distributions.get(name)
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [setting(space.training, name)]


def largest_batch_size(space: SearchSpace) -> int:
    """Returns the largest batch size that a trial of the study can have."""
    distribution = space.distributions.get("batch_size")
    if isinstance(distribution, IntDistribution):
        return distribution.high
    return int(max(choices(space, "batch_size")))


def open_data(settings: DataSettings, home: Path, emit: Emit) -> Dataset:
    """Opens the data, prints its warnings, and checks that a validation image has a label.

    Raises:
        TrainingError: the data cannot be used.
    """
    dataset = open_dataset(settings, home, progress_to(emit))
    for warning in dataset.warnings:
        emit(Note(warning))
    if not dataset.targets[dataset.split.validation].any():
        raise SplitError(
            "no validation image has a label, so there is no validation AP to search by; "
            "raise data.split.validation or label more images"
        )
    return dataset


def check_networks(space: SearchSpace, dataset: Dataset) -> StepMemory:
    """Checks that every network of the study accepts the images and fits into memory.

    Returns:
        The training step that needs the most memory.

    Raises:
        SettingsError: a network does not.
    """
    return largest_step(space, dataset.facts)


def largest_step(space: SearchSpace, images: DataFacts) -> StepMemory:
    """Returns what `check_networks` returns, for images that need not be decoded."""
    varied = ("backbone", "device", "precision", "optimizer.name")
    batch_size = {"batch_size": largest_batch_size(space)}
    steps = [
        _checked_step(
            with_params(space.training, batch_size | dict(zip(varied, values, strict=True))), images
        )
        for values in product(*(choices(space, name) for name in varied))
    ]
    return max(steps, key=lambda step: step.needed_bytes)


def check_network(settings: TrainingSettings, dataset: Dataset) -> None:
    """Checks that one network accepts the images and fits into the memory of its device.

    Raises:
        SettingsError: it does not.
    """
    _checked_step(settings, dataset.facts)


def _checked_step(settings: TrainingSettings, images: DataFacts) -> StepMemory:
    check_backbone_fits(settings.backbone, labels=images.labels, image_px=images.image_px)
    # No batch has more images than there are.
    batch_size = min(settings.batch_size, images.train)
    resolved = resolve_settings(settings).model_copy(update={"batch_size": batch_size})
    step = step_memory(resolved, labels=images.labels, image_px=images.image_px)
    step.check()
    return step
