from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from canopy_search.training import run as training_run
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.data.loading import Batch, BatchLoader
from canopy_search.training.optimization.accumulation import (
    Accumulation,
    cut_from,
    finer_steps,
    largest_batch,
    micro_batch_count,
    micro_batch_size,
    steps_at,
)
from canopy_search.training.optimization.losses import LOSSES
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import EXCLUSIVE_LOSS, TrainingSettings
from tests.noise_data import noise_dataset
from tests.short_memory import ShortMemory


@given(images=st.integers(1, 300), steps=st.integers(1, 400))
def test_a_batch_is_cut_into_nearly_equal_parts_of_two_images_or_more(
    images: int, steps: int
) -> None:
    batch = Batch(torch.arange(images), torch.arange(images) * 10)
    parts = list(batch.parts(micro_batch_count(images, steps)))
    sizes = [len(part.targets) for part in parts]

    assert torch.equal(torch.cat([part.pixels for part in parts]), batch.pixels)
    assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) == micro_batch_size(images, steps)
    assert len(parts) <= steps
    assert min(sizes) >= 2 or images == 1
    assert len(parts) == steps or images // (len(parts) + 1) < 2


@given(images=st.integers(1, 300), batch_size=st.integers(1, 100))
def test_the_largest_batch_is_that_of_the_loader(images: int, batch_size: int) -> None:
    data = noise_dataset(train=images, validation=1, test=1)
    loader = BatchLoader(data, data.split.train, batch_size, CPU)
    sizes = [len(batch.targets) for batch in loader.evaluation_batches()]
    assert max(sizes) == largest_batch(images, batch_size)


CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("batch", "chain"),
    [(64, [2, 4, 8, 16, 32]), (12, [2, 4, 6]), (5, [2]), (4, [2]), (3, []), (1, [])],
)
def test_steps_double_until_parts_have_two_images(batch: int, chain: list[int]) -> None:
    found: list[int] = []
    while (finer := finer_steps(batch, found[-1] if found else 1)) is not None:
        found.append(finer)
    assert found == chain


def test_steps_hold_from_their_epoch_on() -> None:
    cut = (Accumulation(3, 2), Accumulation(5, 4))
    assert [steps_at(cut, epoch) for epoch in range(1, 7)] == [1, 1, 2, 2, 4, 4]
    assert steps_at((), 9) == 1


@pytest.mark.parametrize(
    ("before", "epoch", "steps", "after"),
    [
        ([], 3, 2, [(3, 2)]),
        ([(3, 2)], 3, 4, [(3, 4)]),
        ([(3, 2)], 5, 4, [(3, 2), (5, 4)]),
        ([(5, 2)], 2, 2, [(2, 2)]),  # an epoch that is trained again
        ([(5, 4)], 2, 2, [(2, 2), (5, 4)]),
        ([(2, 2), (5, 4)], 2, 4, [(2, 4)]),
    ],
)
def test_a_cut_is_never_undone(
    before: list[tuple[int, int]], epoch: int, steps: int, after: list[tuple[int, int]]
) -> None:
    cut = cut_from([Accumulation(*each) for each in before], epoch, steps)
    assert [(each.from_epoch, each.steps) for each in cut] == after


@pytest.mark.parametrize("numbers", [(0, 2), (1, 0)])
def test_epochs_and_steps_count_from_one(numbers: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Accumulation(*numbers)


def settings(**values: Any) -> TrainingSettings:
    fixed = {"device": "cpu", "precision": "fp32", "threads": 1, "backbone": "tinycnn_8"}
    sgd = {"name": "sgd", "lr": 0.1}
    return TrainingSettings.model_validate(
        fixed | {"epochs": 2, "batch_size": 10, "optimizer": sgd} | values
    )


def dataset(train: int = 27) -> Dataset:
    """Three batches of nine images, which four parts do not divide."""
    return noise_dataset(train=train, validation=13, test=1)


@pytest.fixture
def plain_net(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network without batch normalisation and dropout, in the place of every backbone."""

    def build(*arguments: Any, labels: int, **options: Any) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return nn.Sequential(
                nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, labels)
            )

    monkeypatch.setattr(training_run, "build_backbone", build)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ShortMemory:
    return ShortMemory(monkeypatch)


def weights(run: TrainingRun) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("loss", [name for name in LOSSES if name != EXCLUSIVE_LOSS])
def test_the_gradient_stays_the_mean_over_the_batch(
    loss: str, clip_norm: float | None, plain_net: None, memory: ShortMemory, one_thread: None
) -> None:
    wanted = settings(loss=loss, clip_norm=clip_norm)
    whole, cut = (TrainingRun.of(wanted, dataset(), accumulation) for accumulation in (1, 4))
    start = weights(whole)
    metrics = [run.train_epoch() for run in (whole, cut)]

    assert memory.sizes == [9] * 3 + [2, 2, 2, 3] * 3
    moved = (weights(whole) - start).norm()
    assert (weights(whole) - weights(cut)).norm() < 1e-5 * moved
    assert metrics[0].train_loss == pytest.approx(metrics[1].train_loss, rel=1e-5)
    assert metrics[0].validation.loss == pytest.approx(metrics[1].validation.loss, rel=1e-5)


def test_fp16_s_scale_is_the_same_for_all_parts_of_a_batch(
    plain_net: None, memory: ShortMemory, one_thread: None
) -> None:
    runs = [TrainingRun.of(settings(epochs=1), dataset(), accumulation) for accumulation in (1, 4)]
    start = weights(runs[0])
    for run in runs:
        run._scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        run.train_epoch()
    assert (weights(runs[0]) - weights(runs[1])).norm() < 1e-5 * (weights(runs[0]) - start).norm()
    assert runs[0].state()["scaler"] == runs[1].state()["scaler"]


def test_parts_have_the_images_and_augmentations_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    seen: list[torch.Tensor] = []
    for accumulation in (1, 4):
        run = TrainingRun.of(settings(), dataset(), accumulation)
        parts: list[torch.Tensor] = []
        run.model.register_forward_pre_hook(
            lambda model, inputs, parts=parts: parts.append(inputs[0]) if model.training else None
        )
        run.train_epoch()
        seen.append(torch.cat(parts))
    assert torch.equal(seen[0], seen[1])


def test_batch_normalisation_sees_parts_so_the_numbers_are_others(one_thread: None) -> None:
    runs = [TrainingRun.of(settings(), dataset(), accumulation) for accumulation in (1, 4)]
    losses = [run.train_epoch().train_loss for run in runs]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.3)
    assert runs[1].train_epoch().epoch == 2


def test_evaluation_is_cut_too_and_scores_the_same(memory: ShortMemory, one_thread: None) -> None:
    run = TrainingRun.of(settings(batch_size=5), dataset())
    images = run.dataset.split.validation
    whole = run.evaluate(images)
    run.accumulation = 2
    cut = run.evaluate(images)
    assert memory.evaluation_sizes == [6, 7, 4, 4, 5]
    assert cut.loss == pytest.approx(whole.loss, rel=1e-5)
    assert cut.metrics.ap == pytest.approx(whole.metrics.ap)


def test_more_steps_than_images_leave_two_images_to_a_part(
    memory: ShortMemory, one_thread: None
) -> None:
    TrainingRun.of(settings(batch_size=5), dataset(train=9), accumulation=64).train_epoch()
    assert memory.sizes == [2, 2, 2, 3]
