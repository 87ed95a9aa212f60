"""Metrics after every epoch: AP, ranked by logits, and thresholded metrics.

Macro metrics are means over the labels that have a positive example. For a label without one, AP
and recall are undefined; scikit-learn and torchmetrics count it as 0 and so report a lower mean for
the same predictions, especially on small splits. The number of excluded labels is reported. A label
that every image has, whose AP is 1 for every model, is left out of the mean AP too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multilabel_f1_score,
    multilabel_fbeta_score,
    multilabel_precision,
    multilabel_recall,
)

from canopy_search.training.errors import TrainingError

_IGNORED = -1
# With validation on, torchmetrics rejects data with one label.
_EACH_COLUMN: dict[str, Any] = {
    "average": "none",
    "validate_args": False,
    "ignore_index": _IGNORED,
}


class NonFiniteLogitsError(TrainingError):
    """A model's logits contain NaN or infinity, which cannot be ranked."""

    exit_status = 1


@dataclass(frozen=True)
class MultilabelMetrics:
    """The metrics of one split. None is a mean over zero labels.

    Attributes:
        ap: macro average precision.
        ap_per_label: average precision of each label, None where it has no positive or no negative
            example.
        f1: macro F1.
        precision: macro precision; 0 for a label that is never predicted.
        recall: macro recall.
        hamming: Hamming distance, the share of wrong predictions over all images and labels.
        f2: F2 of each image's set of labels, averaged over images, the metric of Planet; 0 for an
            image without labels, predicted or true, as scikit-learn counts it.
        labels_without_positives: number of labels excluded from the macro metrics.
    """

    ap: float | None
    ap_per_label: dict[str, float | None]
    f1: float | None
    precision: float | None
    recall: float | None
    hamming: float
    f2: float
    labels_without_positives: int


@dataclass(frozen=True)
class Evaluation:
    """A model's scores on one split.

    Attributes:
        loss: mean loss over images and labels.
        metrics: all measures that compare logits with targets.
        logits: (images, labels), float32, in the order of the split.
        seconds: wall time of the pass.
        accuracies: of exclusive labels, see `accuracies_of`.
    """

    loss: float
    metrics: MultilabelMetrics
    logits: npt.NDArray[np.float32]
    seconds: float
    accuracies: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self, split: str, loss_name: str) -> dict[str, Any]:
        """Returns the scores as JSON values under names that carry the split, ``val_ap``."""
        scores = self.metrics
        return {
            f"{split}_ap": scores.ap,
            f"{split}_f1": scores.f1,
            f"{split}_f2": scores.f2,
            f"{split}_precision": scores.precision,
            f"{split}_recall": scores.recall,
            f"{split}_hamming": scores.hamming,
            f"{split}_{loss_name}_loss": self.loss,
            f"{split}_ap_per_label": scores.ap_per_label,
            f"{split}_labels_without_positives": scores.labels_without_positives,
            **{f"{split}_{name}": value for name, value in self.accuracies.items()},
        }


@dataclass(frozen=True)
class EpochMetrics:
    """Results and cost of one epoch.

    Attributes:
        epoch: 1 for the first.
        lr: learning rate of the epoch's last step.
        loss_name: the loss that was minimised.
        train_loss: mean over the epoch's steps, computed while the weights change; without those
            that overflowed in fp16.
        validation: scores on the validation split after the epoch.
        train_s: wall time of the training steps, in seconds.
        wait_s: the part of `train_s` spent waiting for data.
        images_per_s: training images per second.
        peak_memory_mib: largest allocation on the GPU in this epoch; on the CPU the largest
            resident set size of the process so far.
    """

    epoch: int
    lr: float
    loss_name: str
    train_loss: float
    validation: Evaluation
    train_s: float
    wait_s: float
    images_per_s: float
    peak_memory_mib: float

    @property
    def validation_logits(self) -> npt.NDArray[np.float32]:
        """Logits of the validation images, (images, labels)."""
        return self.validation.logits

    def as_dict(self) -> dict[str, Any]:
        """Returns the metrics as JSON values, flat except for the AP of each label."""
        return {
            "epoch": self.epoch,
            "lr": self.lr,
            f"train_{self.loss_name}_loss": self.train_loss,
            **self.validation.as_dict("val", self.loss_name),
            "train_s": self.train_s,
            "val_s": self.validation.seconds,
            "wait_s": self.wait_s,
            "images_per_s": self.images_per_s,
            "peak_memory_mib": self.peak_memory_mib,
        }


def multilabel_metrics(
    logits: Tensor, targets: Tensor, *, labels: Sequence[str], thresholds: Tensor | None = None
) -> MultilabelMetrics:
    """Computes the metrics of one split.

    Args:
        logits: (images, labels), float32 on the CPU, unnormalised.
        targets: (images, labels), 0 or 1 of any dtype, on the CPU. NaN is unknown and left out of
            every score.
        labels: names of the labels, in the order of the columns.
        thresholds: (labels,), float32; a label is predicted if its logit is at least this. The
            default is 0, a probability of 0.5.

    Raises:
        NonFiniteLogitsError: a logit is NaN or infinite.
        ValueError: shapes do not match, or there is no image.
    """
    ap = average_precision(logits, targets)
    if len(labels) != len(ap):
        raise ValueError(f"{len(labels)} names for {len(ap)} columns of logits; pass one for each")

    predicted = (logits.detach() >= (0 if thresholds is None else thresholds)).int()
    known = ~targets.isnan()
    true = torch.where(known, targets, _IGNORED).int()
    has_positive = (true == 1).any(dim=0).numpy()
    defined = ~np.isnan(ap)

    def macro(score: Callable[..., Tensor]) -> float | None:
        scores = score(predicted, true, num_labels=len(labels), **_EACH_COLUMN)
        return _mean(scores.reshape(-1).double().numpy()[has_positive])

    # Transposed, so that the scores are per image instead of per label.
    f2 = multilabel_fbeta_score(predicted.T, true.T, 2.0, num_labels=len(true), **_EACH_COLUMN)
    return MultilabelMetrics(
        ap=_mean(ap[defined]),
        ap_per_label={
            label: float(value) if is_defined else None
            for label, value, is_defined in zip(labels, ap, defined, strict=True)
        },
        f1=macro(multilabel_f1_score),
        precision=macro(multilabel_precision),
        recall=macro(multilabel_recall),
        hamming=float((predicted != true)[known].double().mean()),
        f2=float(f2.reshape(-1)[known.any(dim=1)].double().mean()),
        labels_without_positives=int((~has_positive).sum()),
    )


def average_precision(logits: Tensor, targets: Tensor) -> npt.NDArray[np.float64]:
    """Returns the exact average precision of each label.

    AP is the sum over the distinct scores, from the highest on, of the precision at that score
    times the recall gained there. Equal scores form one step, as in scikit-learn's
    ``average_precision_score``, so the order of the images does not matter.

    Args:
        logits: (images, labels), float32 on the CPU. Not probabilities: the sigmoid of large logits
            saturates, so that distinct logits become ties and AP changes.
        targets: (images, labels), 0 or 1 of any dtype, on the CPU. NaN is unknown: such an image
            is not part of that label's ranking.

    Returns:
        (labels,), float64, NaN for a label without a positive or without a negative example: every
        model's AP would be undefined, or 1.

    Raises:
        NonFiniteLogitsError: a logit is NaN or infinite.
        ValueError: shapes do not match, or there is no image.
    """
    check_logits(logits, targets)
    images, labels = logits.shape

    # All arrays are (labels, images), each row in the order of its label's ranking.
    scores = np.ascontiguousarray(logits.detach().numpy().T)
    order = np.argsort(-scores, axis=1)
    scores = np.take_along_axis(scores, order, axis=1)
    sorted_targets = np.take_along_axis(targets.numpy().T, order, axis=1)
    relevant = sorted_targets == 1
    found = np.cumsum(relevant, axis=1, dtype=np.int32)
    seen = np.cumsum(relevant | (sorted_targets == 0), axis=1, dtype=np.int32)

    ends_tie = np.ones(scores.shape, dtype=bool)
    np.not_equal(scores[:, :-1], scores[:, 1:], out=ends_tie[:, :-1])

    # Only positives add recall, and each counts with the precision at the end of its tie. From here
    # on, positions index the flattened rows of all labels.
    tie_ends = np.flatnonzero(ends_tie)
    positives = np.flatnonzero(relevant)
    ends = tie_ends[np.searchsorted(tie_ends, positives)]
    precisions = found.ravel()[ends] / seen.ravel()[ends]
    sums = np.bincount(positives // images, weights=precisions, minlength=labels)
    counts = found[:, -1]
    ap = np.full(labels, np.nan)
    np.divide(sums, counts, out=ap, where=(counts > 0) & (counts < seen[:, -1]))
    return ap


def top_k_accuracy(logits: Tensor, targets: Tensor, k: int) -> float:
    """Returns the share of images whose only label is among the k with the highest logits.

    Args:
        logits: (images, labels), float32 on the CPU.
        targets: (images, labels), exactly one 1 in each row.
        k: number of labels to look at; all of them if there are fewer.
    """
    top = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return float(targets.gather(1, top).sum(dim=1).double().mean())


def accuracies_of(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Returns the accuracies of exclusive labels, see `top_k_accuracy`.

    They are ``accuracy`` and, with more than five labels, ``top5_accuracy``.
    """
    ranks = {"accuracy": 1, "top5_accuracy": 5}
    labels = logits.shape[1]
    return {name: top_k_accuracy(logits, targets, k) for name, k in ranks.items() if k < labels}


def one_vs_rest_logits(logits: Tensor) -> Tensor:
    """Returns the log odds of softmax probabilities, so that their sigmoid is the probability.

    Labels are then ranked, thresholded and reported in the same way as after a sigmoid.

    Args:
        logits: (images, labels), float32, unnormalised, of at least two labels.

    Returns:
        Of the same shape, float32 on the same device. With z the logits:
        ``z_k - log sum_{j != k} exp z_j``, which is finite for all finite logits.
    """
    # MPS has no float64.
    values = logits if logits.device.type == "mps" else logits.double()
    highest = values.argmax(dim=1, keepdim=True)
    log_p = values.log_softmax(dim=1)
    odds = log_p - torch.log1p(-log_p.exp())
    # 1 - p has no digits left where p is nearly 1, so there the others are summed themselves.
    others = values.scatter(1, highest, -torch.inf).logsumexp(dim=1, keepdim=True)
    return odds.scatter(1, highest, values.gather(1, highest) - others).float()


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None


def check_logits(logits: Tensor, targets: Tensor) -> None:
    """Checks that metrics can be computed.

    Raises:
        NonFiniteLogitsError: a logit is NaN or infinite.
        ValueError: shapes do not match, there is no image, or logits are not float32.
    """
    if logits.ndim != 2 or logits.shape != targets.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} must both be "
            "(images, labels)"
        )
    if logits.numel() == 0:
        raise ValueError(f"nothing to measure in logits of shape {tuple(logits.shape)}")
    if logits.dtype != torch.float32:
        raise ValueError(
            f"logits are {logits.dtype}; pass float32, lower precision causes ties in the ranking"
        )
    finite = torch.isfinite(logits)
    if not bool(finite.all()):
        raise NonFiniteLogitsError(
            f"{int((~finite).sum())} of {logits.numel()} logits are NaN or infinite; "
            "lower the learning rate or set training.clip_norm"
        )
