from typing import Any

import pytest
import torch
from torch import nn

from canopy_search.training.errors import UnknownNameError
from canopy_search.training.optimization.optimizers import (
    OPTIMIZERS,
    build_optimizer,
    check_optimizer,
    set_learning_rate,
)
from canopy_search.training.settings import OptimizerSettings

CPU = torch.device("cpu")


def model_and_step(optimizer_of: Any, steps: int = 3) -> torch.Tensor:
    """Trains a linear layer from fixed weights and returns what they became."""
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.5, -0.25]]))
        model.bias.zero_()
    optimizer = optimizer_of(model)
    inputs = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    for _ in range(steps):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    return model.weight.detach()


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("adam", lambda m: torch.optim.Adam(m.parameters(), lr=0.1, weight_decay=0.01)),
        ("adamw", lambda m: torch.optim.AdamW(m.parameters(), lr=0.1, weight_decay=0.01)),
        (
            "sgd",
            lambda m: torch.optim.SGD(m.parameters(), lr=0.1, weight_decay=0.01, momentum=0.7),
        ),
    ],
)
def test_steps_like_torchs_own_unfused(name: str, plain: Any):
    settings = OptimizerSettings(name=name, lr=0.1, weight_decay=0.01, momentum=0.7)
    ours = model_and_step(lambda model: build_optimizer(model, settings, CPU))
    torch.testing.assert_close(ours, model_and_step(plain))


def test_the_three_differ():
    results = [
        model_and_step(
            lambda model, name=name: build_optimizer(
                model, OptimizerSettings(name=name, lr=0.1, weight_decay=0.5), CPU
            )
        )
        for name in OPTIMIZERS
    ]
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        assert not torch.allclose(results[first], results[second])


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize(("device", "fused"), [("cpu", True), ("cuda", True), ("meta", False)])
def test_is_fused_where_the_device_can(name: str, device: str, fused: bool):
    optimizer = build_optimizer(nn.Linear(2, 1), OptimizerSettings(name=name), torch.device(device))
    assert optimizer.defaults["fused"] is fused


def test_sets_the_rate_of_every_group():
    optimizer = build_optimizer(nn.Linear(2, 1), OptimizerSettings(lr=0.1), CPU)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.5})
    set_learning_rate(optimizer, 0.02)
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.02]


def test_a_rate_of_zero_stands_still():
    def frozen(model: nn.Module) -> torch.optim.Optimizer:
        optimizer = build_optimizer(model, OptimizerSettings(name="sgd", lr=0.1), CPU)
        set_learning_rate(optimizer, 0.0)
        return optimizer

    assert model_and_step(frozen).tolist() == [[0.5, -0.25]]


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'adamx'.*'adam'"):
        build_optimizer(nn.Linear(2, 1), OptimizerSettings(name="adamx"), CPU)
    check_optimizer("sgd")
