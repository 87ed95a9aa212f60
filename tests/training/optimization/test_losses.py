import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from canopy_search.training.data.labels.targets import UNKNOWN
from canopy_search.training.errors import SettingsError, UnknownNameError
from canopy_search.training.optimization.losses import (
    LOSSES,
    MultilabelLoss,
    build_loss,
    check_loss,
    check_targets_fit,
)
from canopy_search.training.settings import AsymmetricSettings, FocalSettings, TrainingSettings

ALL_LOSSES = ["bce", "weighted_bce", "focal", "focal_bce", "asymmetric"]
"""Of labels that do not exclude each other."""
PRIORS = torch.tensor([0.5, 0.1, 0.02])
GAMMAS = st.sampled_from([0.0, 0.3, 1.0, 2.0, 4.0])


def loss_named(name: str, priors: Tensor = PRIORS, images: int | Tensor = 1000, **fields: Any):
    return build_loss(TrainingSettings(loss=name, **fields), priors, images)


def random_batch(batch: int = 32, labels: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, labels, generator=generator)
    targets = (torch.rand(batch, labels, generator=generator) < 0.3).float()
    return logits, targets


def gradient(loss: MultilabelLoss, logits: Tensor, targets: Tensor) -> Tensor:
    leaf = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf, targets), leaf)
    return found


def test_these_are_all_losses():
    assert list(LOSSES) == [*ALL_LOSSES, "cross_entropy"]


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_a_masked_loss_is_the_mean_over_the_known_targets(name: str):
    logits, targets = random_batch()
    known = torch.rand(targets.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    masked = build_loss(TrainingSettings(loss=name), PRIORS, 1000, is_masked=True)
    with_nan = torch.where(known, targets, torch.nan)
    plain = loss_named(name)

    torch.testing.assert_close(
        masked(logits, with_nan), plain.elementwise(logits, targets)[known].mean()
    )
    torch.testing.assert_close(masked(logits, targets), plain(logits, targets))
    assert (gradient(masked, logits, with_nan)[~known] == 0).all()
    assert torch.isfinite(gradient(masked, logits, with_nan)).all()


def test_a_masked_loss_of_parts_weighted_by_their_counts_is_that_of_the_whole():
    logits, targets = random_batch()
    targets[:11] = torch.nan  # the first part knows nothing
    loss = build_loss(TrainingSettings(), PRIORS, 1000, is_masked=True)
    parts = [slice(0, 10), slice(10, 12), slice(12, 32)]
    weights = [loss.count(targets[part]) for part in parts]
    whole = sum(
        loss(logits[part], targets[part]) * w for part, w in zip(parts, weights, strict=True)
    )
    torch.testing.assert_close(whole / loss.count(targets), loss(logits, targets))


def test_priors_of_a_label_may_be_of_fewer_images():
    loss = loss_named("weighted_bce", torch.tensor([0.0, 0.0]), torch.tensor([100, 10]))
    values = [loss(torch.zeros(1, 2), row[None]) for row in torch.eye(2)]
    assert values[0].item() == pytest.approx((99 + 1) / 2 * math.log(2), rel=1e-6)
    assert values[1].item() == pytest.approx((9 + 1) / 2 * math.log(2), rel=1e-6)


def test_cross_entropy_is_torch_s():
    logits = 3 * torch.randn(32, 5, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(32) % 5
    found = loss_named("cross_entropy", torch.ones(5))(logits, torch.eye(5)[classes])
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits, classes))


@pytest.mark.parametrize("targets", [[[1, 1]], [[0, 0]], [[1, 0], [UNKNOWN, 1]], [[1], [1]]])
def test_cross_entropy_needs_exactly_one_of_several_labels(targets: list[list[int]]):
    check_targets_fit("cross_entropy", np.array([[1, 0], [0, 1]], np.uint8))
    check_targets_fit("bce", np.array(targets, np.uint8))
    with pytest.raises(SettingsError, match=r"training\.loss is cross_entropy.*choose bce"):
        check_targets_fit("cross_entropy", np.array(targets, np.uint8))


def test_bce_is_the_definition():
    logits, targets = random_batch()
    p = torch.sigmoid(logits.double())
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    assert loss_named("bce")(logits, targets).item() == pytest.approx(expected.item(), rel=1e-6)


def test_weighted_bce_weighs_positives_by_the_odds_against_them():
    logits, targets = random_batch()
    p = torch.sigmoid(logits.double())
    weights = torch.tensor([1.0, 9.0, 49.0], dtype=torch.float64)
    expected = -(weights * targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    found = loss_named("weighted_bce")(logits, targets)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("prior", "images", "weight"),
    [(0.0, 100, 99.0), (1.0, 100, 1 / 99), (0.0, 1, 1.0), (1.0, 1, 1.0)],
)
def test_weighted_bce_moves_a_prior_of_0_or_1_by_one_image(
    prior: float, images: int, weight: float
):
    loss = loss_named("weighted_bce", torch.tensor([prior]), images)
    # At logit 0 the unweighted loss is log 2.
    value = loss(torch.zeros(1, 1), torch.ones(1, 1)).item()
    assert value == pytest.approx(weight * math.log(2), rel=1e-6)


def test_weighted_bce_needs_training_images():
    with pytest.raises(ValueError, match="at least 1"):
        loss_named("weighted_bce", PRIORS, 0)


@given(
    alpha=st.sampled_from([-1.0, 0.0, 0.25, 0.9, 1.0]),
    gamma=GAMMAS,
    seed=st.integers(0, 1000),
)
def test_focal_is_torchvisions(alpha: float, gamma: float, seed: int):
    logits, targets = random_batch(seed=seed)
    expected = sigmoid_focal_loss(logits, targets, alpha, gamma, reduction="mean")
    found = loss_named("focal", focal=FocalSettings(alpha=alpha, gamma=gamma))(logits, targets)
    torch.testing.assert_close(found, expected)


def test_focal_has_a_gradient_where_torchvisions_is_not_a_number():
    logits, targets = torch.tensor([[50.0]]), torch.tensor([[1.0]])
    leaf = logits.clone().requires_grad_()
    sigmoid_focal_loss(leaf, targets, gamma=0.5, reduction="mean").backward()
    assert leaf.grad is not None
    assert leaf.grad.isnan().all(), "torchvision mended it: use its focal loss"
    ours = loss_named("focal", focal=FocalSettings(gamma=0.5))
    assert gradient(ours, logits, targets).isfinite().all()


def test_focal_bce_is_the_sum_of_both():
    logits, targets = random_batch()
    parts = loss_named("focal")(logits, targets) + loss_named("bce")(logits, targets)
    torch.testing.assert_close(loss_named("focal_bce")(logits, targets), parts)


@given(
    negative=GAMMAS,
    positive=GAMMAS,
    clip=st.sampled_from([0.0, 1e-3, 0.05, 0.5]),
    seed=st.integers(0, 1000),
)
def test_asymmetric_is_the_papers_formula(negative: float, positive: float, clip: float, seed: int):
    logits, targets = random_batch(seed=seed)
    p = torch.sigmoid(logits.double())
    shifted = (p - clip).clamp(min=0)
    of_positives = (1 - p) ** positive * p.log()
    of_negatives = shifted**negative * (1 - shifted).log()
    expected = -(targets * of_positives + (1 - targets) * of_negatives).mean()
    fields = AsymmetricSettings(gamma_negative=negative, gamma_positive=positive, clip=clip)
    found = loss_named("asymmetric", asymmetric=fields)(logits, targets)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_asymmetric_ignores_negatives_below_the_clip():
    loss = loss_named("asymmetric", asymmetric=AsymmetricSettings(clip=0.05))
    logits = torch.tensor([[-3.0, -20.0]])  # probabilities .047 and below
    assert loss(logits, torch.zeros(1, 2)).item() == 0.0
    assert gradient(loss, logits, torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_gradients_agree_with_finite_differences(name: str):
    loss = loss_named(name)
    logits, targets = random_batch(batch=4)
    found = gradient(loss, logits, targets)
    step = 1e-3
    for index in torch.cartesian_prod(torch.arange(4), torch.arange(3)).tolist():
        shift = torch.zeros_like(logits, dtype=torch.float64)
        shift[tuple(index)] = step
        above = loss.elementwise(logits.double() + shift, targets.double()).mean()
        below = loss.elementwise(logits.double() - shift, targets.double()).mean()
        expected = (above - below) / (2 * step)
        assert found[tuple(index)].item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-8)


@pytest.mark.parametrize("name", ALL_LOSSES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_extreme_logits_give_finite_losses_and_gradients(name: str, gamma: float, clip: float):
    loss = loss_named(
        name,
        torch.tensor([0.5] * 6),
        focal=FocalSettings(gamma=gamma),
        asymmetric=AsymmetricSettings(gamma_negative=gamma, gamma_positive=gamma, clip=clip),
    )
    logits = torch.tensor([[-1e4, -100.0, -20.0, 20.0, 100.0, 1e4]]).repeat(2, 1)
    targets = torch.tensor([[0.0] * 6, [1.0] * 6])
    assert loss(logits, targets).isfinite()
    assert gradient(loss, logits, targets).isfinite().all()


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_extreme_mistakes_still_have_a_gradient_towards_the_truth(name: str):
    # Without probability shifting: with it, the paper's loss gives up on such negatives.
    loss = loss_named(name, torch.tensor([0.5]), asymmetric=AsymmetricSettings(clip=0.0))
    logits = torch.tensor([[1e4], [-1e4]])
    towards_truth = gradient(loss, logits, torch.tensor([[0.0], [1.0]]))
    assert towards_truth[0] > 0
    assert towards_truth[1] < 0


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_is_a_mean_over_images_and_over_labels(name: str):
    logits, targets = random_batch()
    once = loss_named(name)(logits, targets)
    assert once.shape == ()
    torch.testing.assert_close(loss_named(name)(logits.repeat(2, 1), targets.repeat(2, 1)), once)
    twice_the_labels = loss_named(name, PRIORS.repeat(2))
    torch.testing.assert_close(twice_the_labels(logits.repeat(1, 2), targets.repeat(1, 2)), once)


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_one_label_and_one_image_are_enough(name: str):
    loss = loss_named(name, torch.tensor([0.3]))
    assert loss(torch.tensor([[0.7]]), torch.tensor([[1.0]])) > 0


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_computes_in_float32_under_autocast(name: str):
    logits, targets = random_batch()
    coarse = logits.bfloat16()
    expected = loss_named(name)(coarse.float(), targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss_named(name)(coarse, targets)
    assert found.dtype == torch.float32
    assert found.item() == expected.item()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_targets_may_be_of_any_dtype(dtype: torch.dtype):
    logits, targets = random_batch()
    loss = loss_named("focal_bce")
    assert loss(logits, targets.to(dtype)).item() == loss(logits, targets).item()


def test_shapes_that_would_broadcast_raise():
    with pytest.raises(ValueError, match=r"\(4, 3\) and targets \(4, 1\)"):
        loss_named("bce")(torch.zeros(4, 3), torch.zeros(4, 1))


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_has_nothing_that_learns(name: str):
    assert list(loss_named(name).parameters()) == []


def test_class_weights_move_with_the_loss():
    assert loss_named("weighted_bce").to("meta").pos_weight.device.type == "meta"


def test_an_unknown_name_names_the_nearest(words: SnapshotAssertion):
    for name, nearest in (("focal_bec", "'focal_bce'"), ("zzzz", "asymmetric, bce")):
        with pytest.raises(UnknownNameError, match=f"'{name}'.*{nearest}") as caught:
            check_loss(name)
        assert str(caught.value) == words
    with pytest.raises(UnknownNameError):
        loss_named("focal_bec")
    for name in ALL_LOSSES:
        check_loss(name)
