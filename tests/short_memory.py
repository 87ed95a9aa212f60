"""A device with little memory, without one: networks that take so many images at once."""

import weakref
from typing import Any

import pytest
import torch
from torch import nn

from canopy_search.training import run

SHORTAGE = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"


class ShortMemory:
    """Puts limits on all networks that are built from now on.

    Attributes:
        training_images: that fit with what the backward pass needs; None for any number.
        evaluation_images: that fit without.
        sizes: batches that fitted while training, in their order.
        evaluation_sizes: batches that fitted in evaluation.
        shortages: how often memory ran out.
        models: all that were built, held weakly.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.training_images: int | None = None
        self.evaluation_images: int | None = None
        self.sizes: list[int] = []
        self.evaluation_sizes: list[int] = []
        self.shortages = 0
        self.models: list[weakref.ref[nn.Module]] = []
        self._build = run.build_backbone
        monkeypatch.setattr(run, "build_backbone", self.build_backbone)

    def build_backbone(self, *arguments: Any, **options: Any) -> nn.Module:
        model = self._build(*arguments, **options)
        model.register_forward_pre_hook(self._check)
        self.models.append(weakref.ref(model))
        return model

    def _check(self, model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        images = len(inputs[0])
        limit = self.training_images if model.training else self.evaluation_images
        if limit is not None and images > limit:
            self.shortages += 1
            raise torch.OutOfMemoryError(SHORTAGE)
        (self.sizes if model.training else self.evaluation_sizes).append(images)
