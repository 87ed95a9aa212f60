"""Losses by name, on logits, averaged over images and labels, in float32 under mixed precision.

Logarithms of probabilities are computed as ``logsigmoid`` of the logit, so that losses and
gradients stay finite for every finite logit.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from canopy_search.training.data.labels.targets import has_exclusive_labels, has_label
from canopy_search.training.errors import SettingsError, UnknownNameError, unknown_name_message
from canopy_search.training.optimization.priors import between_0_and_1, label_priors
from canopy_search.training.settings import (
    EXCLUSIVE_LOSS,
    AsymmetricSettings,
    FocalSettings,
    TrainingSettings,
)


class MultilabelLoss(nn.Module, ABC):
    """An elementwise loss, averaged over images and labels.

    Attributes:
        is_masked: whether targets may be NaN, which is unknown; the mean is then over the others.
            Fixed for a run, because looking for NaN would make a GPU wait.
    """

    is_masked = False

    def count(self, targets: Tensor) -> int | Tensor:
        """Returns the number of images behind the mean, the weight of a batch among others.

        Args:
            targets: (batch, labels). An image counts with the share of its targets that is known.
        """
        if not self.is_masked:
            return len(targets)
        known: Tensor = (~targets.isnan()).sum()
        return known.clamp(min=1) / targets.shape[1]

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean loss, a float32 scalar.

        Args:
            logits: (batch, labels), unnormalised, of any float dtype.
            targets: (batch, labels), 0 or 1 of any dtype; NaN if unknown and the loss is masked.

        Raises:
            ValueError: the shapes differ; broadcasting would average over the wrong pairs.
        """
        if logits.shape != targets.shape:
            raise ValueError(
                f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} must have the "
                "same shape (batch, labels)"
            )
        with torch.autocast(logits.device.type, enabled=False):
            if not self.is_masked:
                return self.elementwise(logits.float(), targets.float()).mean()
            known = ~targets.isnan()
            losses = self.elementwise(logits.float(), torch.where(known, targets, 0.0))
            return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)

    @abstractmethod
    def elementwise(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the loss of every image and label; all three are (batch, labels), float32."""


class BCELoss(MultilabelLoss):
    """Binary cross-entropy of every label."""

    def elementwise(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `MultilabelLoss.elementwise`."""
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")


class WeightedBCELoss(MultilabelLoss):
    """Binary cross-entropy with positives weighted by ``(1 - prior) / prior`` of their label.

    Each label's positives and negatives then have the same total weight.

    Args:
        label_priors: (labels,), the share of training images that have each label.
        training_images: number of images behind the priors, of all labels or of each, (labels,). A
            label that none or all of them have is treated as if one image differed, so that no
            weight is infinite or 0.

    References:
        ``pos_weight`` of `torch.nn.BCEWithLogitsLoss`.
    """

    pos_weight: Tensor

    def __init__(self, label_priors: Tensor, training_images: int | Tensor) -> None:
        super().__init__()
        if bool((torch.as_tensor(training_images) < 1).any()):
            raise ValueError(f"training_images is {training_images}; it must be at least 1")
        priors = between_0_and_1(label_priors, training_images)
        self.register_buffer("pos_weight", ((1 - priors) / priors).float())

    def elementwise(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `MultilabelLoss.elementwise`."""
        return functional.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=self.pos_weight, reduction="none"
        )


class FocalLoss(MultilabelLoss):
    """Binary cross-entropy that decreases with the probability of the true value.

    With ``p`` the probability of the true value: ``-alpha · (1 - p)^gamma · log p``, with
    ``1 - alpha`` for negatives; a negative alpha weights both equally.

    Equal to `torchvision.ops.sigmoid_focal_loss`, and used instead because that function's gradient
    is NaN for gamma between 0 and 1 once a probability saturates.

    References:
        Lin et al. 2017, Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002
    """

    def __init__(self, settings: FocalSettings) -> None:
        super().__init__()
        self.alpha = settings.alpha
        self.gamma = settings.gamma

    def elementwise(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `MultilabelLoss.elementwise`."""
        towards_truth = logits * (2 * targets - 1)
        log_p = functional.logsigmoid(towards_truth)
        log_not_p = functional.logsigmoid(-towards_truth)
        loss = -torch.exp(self.gamma * log_not_p) * log_p
        if self.alpha < 0:
            return loss
        return loss * (self.alpha * targets + (1 - self.alpha) * (1 - targets))


class FocalBCELoss(MultilabelLoss):
    """The sum of focal loss and binary cross-entropy."""

    def __init__(self, settings: FocalSettings) -> None:
        super().__init__()
        self.focal = FocalLoss(settings)
        self.bce = BCELoss()

    def elementwise(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `MultilabelLoss.elementwise`."""
        return self.focal.elementwise(logits, targets) + self.bce.elementwise(logits, targets)


class AsymmetricLoss(MultilabelLoss):
    """Focal loss with a separate gamma for negatives; the easiest negatives have zero loss.

    With ``p`` the probability of the label and ``q = max(p - clip, 0)``:
    ``-(1 - p)^gamma_positive · log p`` for positives and
    ``-q^gamma_negative · log(1 - q)`` for negatives.

    References:
        Ridnik et al. 2021, Asymmetric Loss For Multi-Label Classification, equations 5 to 7,
        https://arxiv.org/abs/2009.14119
    """

    def __init__(self, settings: AsymmetricSettings) -> None:
        super().__init__()
        self.gamma_negative = settings.gamma_negative
        self.gamma_positive = settings.gamma_positive
        self.clip = settings.clip

    def elementwise(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `MultilabelLoss.elementwise`."""
        log_p = functional.logsigmoid(logits)
        log_not_p = functional.logsigmoid(-logits)
        positives = torch.exp(self.gamma_positive * log_not_p) * log_p
        negatives = self._log_likelihood_of_negatives(log_p, log_not_p)
        return -(targets * positives + (1 - targets) * negatives)

    def _log_likelihood_of_negatives(self, log_p: Tensor, log_not_p: Tensor) -> Tensor:
        if self.clip == 0:
            return torch.exp(self.gamma_negative * log_p) * log_not_p
        q = log_p.exp() - self.clip
        counts = q > 0
        # The power's gradient at 0 is infinite for gamma below 1, and infinity times the mask's 0
        # is NaN. So masked elements get a harmless value before the power, not after it.
        q = torch.where(counts, q, 0.5)
        likelihood = q.pow(self.gamma_negative) * torch.log(log_not_p.exp() + self.clip)
        return torch.where(counts, likelihood, 0.0)


class CrossEntropyLoss(MultilabelLoss):
    """Softmax cross-entropy, for images that have exactly one label each.

    References:
        `torch.nn.CrossEntropyLoss` with probabilities as targets.
    """

    def elementwise(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `MultilabelLoss.elementwise`; the mean over labels is the cross-entropy."""
        return -targets * functional.log_softmax(logits, dim=1) * targets.shape[1]


Images = int | Tensor
LOSSES: Mapping[str, Callable[[TrainingSettings, Tensor, Images], MultilabelLoss]] = (
    MappingProxyType(
        {
            "bce": lambda _settings, _priors, _images: BCELoss(),
            "weighted_bce": lambda _settings, priors, images: WeightedBCELoss(priors, images),
            "focal": lambda settings, _priors, _images: FocalLoss(settings.focal),
            "focal_bce": lambda settings, _priors, _images: FocalBCELoss(settings.focal),
            "asymmetric": lambda settings, _priors, _images: AsymmetricLoss(settings.asymmetric),
            EXCLUSIVE_LOSS: lambda _settings, _priors, _images: CrossEntropyLoss(),
        }
    )
)


def check_loss(name: str) -> None:
    """Raises UnknownNameError unless there is a loss of that name."""
    if name not in LOSSES:
        raise UnknownNameError(unknown_name_message("loss", name, LOSSES))


def check_targets_fit(name: str, targets: NDArray[np.uint8]) -> None:
    """Checks that a loss can be used for the labels of a data set.

    Args:
        name: of the loss.
        targets: (images, labels), uint8, 0 or 1, or `UNKNOWN`.

    Raises:
        SettingsError: the loss is for exclusive labels, and an image has none or several.
    """
    if name != EXCLUSIVE_LOSS:
        return
    if not has_exclusive_labels(targets):
        others = int((has_label(targets).sum(axis=1) != 1).sum())
        raise SettingsError(
            f"training.loss is {EXCLUSIVE_LOSS}, for images with exactly one of several labels; "
            f"of {targets.shape[1]} labels, {others:,} of {len(targets):,} images have none, "
            "several or unknown ones; choose bce"
        )


def build_loss(
    settings: TrainingSettings,
    label_priors: Tensor,
    training_images: int | Tensor,
    *,
    is_masked: bool = False,
) -> MultilabelLoss:
    """Builds the loss named in the settings; it has no trainable parameters.

    Args:
        settings: ``loss`` is the name; ``focal`` and ``asymmetric`` hold parameters.
        label_priors: (labels,), the share of training images that have each label.
        training_images: number of images behind the priors, of all labels or of each.
        is_masked: whether targets may be unknown, see `MultilabelLoss`.

    Raises:
        UnknownNameError: there is no loss of that name.
    """
    check_loss(settings.loss)
    loss = LOSSES[settings.loss](settings, label_priors, training_images)
    loss.is_masked = is_masked
    return loss


def loss_for(
    settings: TrainingSettings, targets: NDArray[np.uint8], *, is_masked: bool
) -> MultilabelLoss:
    """Builds the loss with the priors of a run's training images.

    Args:
        settings: see `build_loss`.
        targets: (training images, labels), uint8, 0 or 1, or `UNKNOWN`, which no prior counts.
        is_masked: see `build_loss`.
    """
    priors, images = label_priors(targets, is_masked=is_masked)
    return build_loss(settings, priors, images, is_masked=is_masked)
