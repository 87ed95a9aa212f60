import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ExponentialLR

from canopy_search.training.optimization.schedules import exponential_lr


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
