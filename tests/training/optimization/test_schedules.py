from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
)

from canopy_search.training.optimization.schedules import exponential_lr, learning_rates
from canopy_search.training.settings import TrainingSettings

LR, EPOCHS, STEPS = 0.1, 5, 7
TOTAL = EPOCHS * STEPS


def rates(**values: Any) -> list[float]:
    """Returns the rate of every step of a run."""
    settings = TrainingSettings.model_validate({"epochs": EPOCHS, "optimizer": {"lr": LR}} | values)
    return [
        rate for epoch in range(settings.epochs) for rate in learning_rates(settings, epoch, STEPS)
    ]


def torchs_rates(scheduler_of: Callable[[Optimizer], LRScheduler]) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    scheduler = scheduler_of(optimizer)
    found = []
    for _ in range(TOTAL):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


def after_warm_up(
    optimizer: Optimizer, steps: int, then: Callable[[Optimizer], LRScheduler]
) -> LRScheduler:
    warm_up = LinearLR(optimizer, start_factor=1 / steps, total_iters=steps - 1)
    return SequentialLR(optimizer, [warm_up, then(optimizer)], milestones=[steps])


@given(lr0=st.floats(1e-6, 1.0), gamma=st.floats(0.5, 1.0))
def test_agrees_with_torchs_scheduler_at_every_epoch(lr0: float, gamma: float):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr0)
    scheduler = ExponentialLR(optimizer, gamma)
    for epoch in range(20):
        assert exponential_lr(lr0, gamma, epoch) == pytest.approx(
            scheduler.get_last_lr()[0], rel=1e-14
        )
        optimizer.step()
        scheduler.step()


def test_the_first_epoch_has_the_rate_itself():
    assert exponential_lr(0.003, 0.85, 0) == 0.003


def test_gamma_one_is_exactly_constant():
    assert {exponential_lr(0.1, 1.0, epoch) for epoch in range(100)} == {0.1}


def test_a_negative_epoch_raises():
    with pytest.raises(ValueError, match="epoch is -1"):
        exponential_lr(0.1, 0.9, -1)


@pytest.mark.parametrize("final_factor", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("warm_up", [1.0, 2.0])
def test_cosine_is_torchs_after_its_linear_warm_up(final_factor: float, warm_up: float):
    schedule = {"name": "cosine", "warmup_epochs": warm_up, "final_factor": final_factor}
    steps = round(warm_up * STEPS)

    def cosine(optimizer: Optimizer) -> LRScheduler:
        return CosineAnnealingLR(optimizer, TOTAL - steps, eta_min=LR * final_factor)

    expected = torchs_rates(lambda optimizer: after_warm_up(optimizer, steps, cosine))
    assert rates(schedule=schedule) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_cosine_without_a_warm_up_is_torchs():
    expected = torchs_rates(lambda optimizer: CosineAnnealingLR(optimizer, TOTAL, eta_min=0.02))
    found = rates(schedule={"name": "cosine", "final_factor": 0.2})
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("warm_up", [1.0, 2.5, 4.0])
@pytest.mark.parametrize("final_factor", [1e-6, 0.01, 0.5])
def test_one_cycle_is_torchs(warm_up: float, final_factor: float):
    schedule = {"name": "one_cycle", "warmup_epochs": warm_up, "final_factor": final_factor}
    expected = torchs_rates(
        lambda optimizer: OneCycleLR(
            optimizer,
            LR,
            total_steps=TOTAL,
            pct_start=round(warm_up * STEPS) / TOTAL,
            final_div_factor=1 / (25 * final_factor),
            cycle_momentum=False,
        )
    )
    assert rates(schedule=schedule) == pytest.approx(expected, rel=1e-9)


def test_wsd_is_torchs_linear_warm_up_a_constant_and_torchs_linear_decay():
    schedule = {"name": "wsd", "warmup_epochs": 1, "decay_epochs": 2, "final_factor": 0.1}
    decay = 2 * STEPS

    def of(optimizer: Optimizer) -> LRScheduler:
        warm_up = LinearLR(optimizer, start_factor=1 / STEPS, total_iters=STEPS - 1)
        fall = LinearLR(optimizer, start_factor=1.0, end_factor=0.1, total_iters=decay)
        stable = ConstantLR(optimizer, factor=1.0)
        return SequentialLR(optimizer, [warm_up, stable, fall], milestones=[STEPS, TOTAL - decay])

    assert rates(schedule=schedule) == pytest.approx(torchs_rates(of), rel=1e-9)


def test_exponential_warms_up_step_by_step_and_falls_epoch_by_epoch():
    found = rates(gamma=0.5, schedule={"warmup_epochs": 1})
    assert found[:STEPS] == pytest.approx([LR * (step + 1) / STEPS for step in range(STEPS)])
    assert found[STEPS:] == [LR * 0.5**epoch for epoch in range(1, EPOCHS) for _ in range(STEPS)]


def test_constant_is_gamma_one():
    assert rates(schedule={"name": "constant"}) == rates() == [LR] * TOTAL


@given(
    epochs=st.integers(1, 4),
    steps=st.integers(1, 9),
    schedule=st.fixed_dictionaries(
        {
            "name": st.sampled_from(["constant", "exponential", "cosine", "one_cycle", "wsd"]),
            "warmup_epochs": st.floats(0.01, 0.5),
            "decay_epochs": st.floats(0.0, 0.5),
            "final_factor": st.floats(0.0, 1.0),
        }
    ),
)
def test_every_rate_is_between_0_and_the_rate_itself(
    epochs: int, steps: int, schedule: dict[str, Any]
):
    settings = TrainingSettings.model_validate({"epochs": epochs, "schedule": schedule})
    highest = settings.optimizer.lr * (1 + 1e-9)
    for epoch in range(epochs + 1):  # speed is measured beyond the last epoch
        found = learning_rates(settings, epoch, steps)
        assert len(found) == steps
        assert all(0 <= rate <= highest for rate in found)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gamma": 0.9, "schedule": {"name": "cosine"}}, r"gamma 0\.9 .* cosine; remove one"),
        ({"gamma": 0.9, "schedule": {"name": "constant"}}, r"gamma 0\.9 .* constant"),
        ({"schedule": {"name": "one_cycle"}}, r"set schedule\.warmup_epochs"),
        ({"epochs": 3, "schedule": {"name": "wsd"}}, r"decay_epochs 4 take more than epochs 3"),
        ({"epochs": 3, "schedule": {"warmup_epochs": 3.5}}, r"warmup_epochs 3\.5 take more"),
    ],
)
def test_settings_that_do_not_fit_together(values: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        TrainingSettings.model_validate(values)
