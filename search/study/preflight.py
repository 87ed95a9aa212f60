"""Checks before the first trial: the data can rank trials, and the networks fit into memory."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.distributions import CategoricalDistribution, IntDistribution

from canopy_search.dashboards.formatting.values import counted
from canopy_search.search.config.space import SearchSpace, setting, with_params
from canopy_search.search.events import Emit, Note, progress_to
from canopy_search.training.data.dataset import DataFacts, Dataset, open_dataset
from canopy_search.training.data.labels.targets import has_label
from canopy_search.training.device.memory import StepMemory, step_memory
from canopy_search.training.errors import SettingsError, SplitError, listed
from canopy_search.training.network.backbones import (
    accepts_single_image,
    check_backbone_fits,
    meta_backbone,
    start_head_at,
    weights_fit,
)
from canopy_search.training.network.weights_files import Fit
from canopy_search.training.optimization.accumulation import micro_batch_size, smallest_batch
from canopy_search.training.optimization.losses import check_targets_fit
from canopy_search.training.resolve import resolve_settings
from canopy_search.training.settings import DataSettings, TrainingSettings, is_weights_file


def choices(space: SearchSpace, name: str) -> Sequence[Any]:
    """Returns every value that a categorical setting can have in the study."""
    distribution = space.distributions.get(name)
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [setting(space.training, name)]


def batch_sizes(space: SearchSpace) -> Sequence[int]:
    """Returns every batch size that a trial of the study can have."""
    distribution = space.distributions.get("batch_size")
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    return [int(size) for size in choices(space, "batch_size")]


def largest_batch_size(space: SearchSpace) -> int:
    """Returns the largest batch size that a trial of the study can have."""
    return max(batch_sizes(space))


def open_data(settings: DataSettings, home: Path, emit: Emit) -> Dataset:
    """Opens the data, prints its warnings, and checks that its validation AP can rank trials.

    Raises:
        TrainingError: the data cannot be used.
    """
    dataset = open_dataset(settings, home, progress_to(emit))
    for warning in dataset.warnings:
        emit(Note(warning))
    targets = dataset.targets[dataset.split.validation]
    has = has_label(targets)
    if not has.any():
        raise SplitError(
            "no validation image has a label, so there is no validation AP to search by; "
            "raise data.split.validation or label more images"
        )
    if not (has.any(axis=0) & (targets == 0).any(axis=0)).any():
        always = [dataset.labels[at] for at in np.flatnonzero(has.any(axis=0))]
        raise SplitError(
            f"every image in validation has {listed(always)} and no other label, so there is "
            "nothing to tell apart and every validation AP would be 1; add images without it"
        )
    return dataset


def check_networks(space: SearchSpace, dataset: Dataset) -> StepMemory:
    """Checks that every network of the study accepts images and weights and fits into memory.

    Returns:
        The training step that needs the most memory.

    Raises:
        SettingsError: a network does not.
    """
    for loss in choices(space, "loss"):
        check_targets_fit(loss, dataset.targets)
    return largest_step(space, dataset.facts)


def largest_step(space: SearchSpace, images: DataFacts) -> StepMemory:
    """Returns what `check_networks` returns, for images that need not be decoded."""
    varied = ("backbone", "device", "precision", "optimizer.name", "head_bias")
    batch_size = {"batch_size": largest_batch_size(space)}
    steps = [
        _checked_step(
            with_params(space.training, batch_size | dict(zip(varied, values, strict=True))), images
        )
        for values in product(*(choices(space, name) for name in varied))
    ]
    for backbone in choices(space, "backbone"):
        _check_smallest_batch(backbone, batch_sizes(space), images)
    weights_fits(space, images)
    return max(steps, key=lambda step: step.needed_bytes)


def weights_fits(space: SearchSpace, images: DataFacts) -> dict[tuple[str, str], Fit]:
    """Returns how each backbone of the study fits each of its weights files.

    Raises:
        TrainingError: a file is not of the backbone, or cannot be read.
    """
    return {
        (backbone, weights): weights_fit(
            backbone, weights, labels=images.labels, image_px=images.image_px
        )
        for backbone, weights in product(choices(space, "backbone"), choices(space, "weights"))
        if is_weights_file(weights)
    }


def check_network(settings: TrainingSettings, dataset: Dataset) -> dict[tuple[str, str], Fit]:
    """Checks that one network accepts the images and fits into the memory of its device.

    Returns:
        How it fits its weights file, if it has one; see `weights_fits`.

    Raises:
        SettingsError: it does not, or its loss does not fit the labels.
    """
    check_targets_fit(settings.loss, dataset.targets)
    _checked_step(settings, dataset.facts)
    _check_smallest_batch(settings.backbone, [settings.batch_size], dataset.facts)
    return weights_fits(SearchSpace(settings, {}), dataset.facts)


def _check_smallest_batch(backbone: str, sizes: Sequence[int], images: DataFacts) -> None:
    """Checks that a backbone can be trained on the smallest batch of an epoch.

    Raises:
        SettingsError: it has one image, and batch normalisation needs more than one value.
    """
    single = next((size for size in sizes if smallest_batch(images.train, size) == 1), None)
    if single is None or accepts_single_image(
        backbone, labels=images.labels, image_px=images.image_px
    ):
        return
    remedy = "choose 3 or more" if images.train > 1 else "add training images"
    raise SettingsError(
        f"training.batch_size: with {single} and {counted(images.train, 'training image')}, a "
        f"batch has a single image, on which batch normalisation in {backbone} fails with images "
        f"of {images.image_px} px; {remedy}, or raise data.image_px"
    )


def _checked_step(settings: TrainingSettings, images: DataFacts) -> StepMemory:
    check_backbone_fits(settings.backbone, labels=images.labels, image_px=images.image_px)
    if settings.head_bias == "priors":
        network = meta_backbone(settings.backbone, labels=images.labels, image_px=images.image_px)
        start_head_at(network, torch.empty(images.labels, device="meta"))
    # No batch has more images than there are, and a split one needs the memory of a part.
    batch_size = min(settings.batch_size, images.train)
    if settings.accumulation:
        batch_size = micro_batch_size(batch_size, settings.accumulation[-1][1])
    resolved = resolve_settings(settings).model_copy(update={"batch_size": batch_size})
    step = step_memory(resolved, labels=images.labels, image_px=images.image_px)
    step.check()
    return step
