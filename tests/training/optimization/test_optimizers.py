from typing import Any

import pytest
import torch
from torch import nn

from canopy_search.training.errors import UnknownNameError
from canopy_search.training.optimization.optimizers import (
    OPTIMIZERS,
    ParameterGroup,
    build_optimizer,
    check_optimizer,
    parameter_groups,
    set_learning_rate,
)
from canopy_search.training.settings import OptimizerSettings, TrainingSettings

CPU = torch.device("cpu")


def groups_of(model: nn.Module) -> list[ParameterGroup]:
    return [ParameterGroup(tuple(model.parameters()))]


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
    ours = model_and_step(lambda model: build_optimizer(groups_of(model), settings, CPU))
    torch.testing.assert_close(ours, model_and_step(plain))


def test_the_three_differ():
    results = [
        model_and_step(
            lambda model, name=name: build_optimizer(
                groups_of(model), OptimizerSettings(name=name, lr=0.1, weight_decay=0.5), CPU
            )
        )
        for name in OPTIMIZERS
    ]
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        assert not torch.allclose(results[first], results[second])


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize(("device", "fused"), [("cpu", True), ("cuda", True), ("meta", False)])
def test_is_fused_where_the_device_can(name: str, device: str, fused: bool):
    groups = groups_of(nn.Linear(2, 1))
    optimizer = build_optimizer(groups, OptimizerSettings(name=name), torch.device(device))
    assert optimizer.defaults["fused"] is fused


def test_a_group_s_rate_is_its_factor_of_the_rate_whatever_state_was_restored():
    groups = [*groups_of(nn.Linear(2, 1)), ParameterGroup((nn.Parameter(torch.zeros(1)),), 0.5)]
    optimizer = build_optimizer(groups, OptimizerSettings(lr=0.1), CPU)
    restored = optimizer.state_dict()
    restored["param_groups"][1]["lr"] = 7.0
    optimizer.load_state_dict(restored)
    set_learning_rate(optimizer, groups, 0.02)
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.01]


def test_a_rate_of_zero_stands_still():
    def frozen(model: nn.Module) -> torch.optim.Optimizer:
        groups = groups_of(model)
        optimizer = build_optimizer(groups, OptimizerSettings(name="sgd", lr=0.1), CPU)
        set_learning_rate(optimizer, groups, 0.0)
        return optimizer

    assert model_and_step(frozen).tolist() == [[0.5, -0.25]]


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'adamx'.*'adam'"):
        build_optimizer(groups_of(nn.Linear(2, 1)), OptimizerSettings(name="adamx"), CPU)
    check_optimizer("sgd")


def split(**settings: Any) -> list[tuple[tuple[int, ...], float, bool]]:
    """Returns which of a weight and a bias of each of three layers are in a group."""
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in [(2, 2), (2,)] * 3]
    groups = parameter_groups(
        parameters, [2, 2, 1, 1, 0, 0], TrainingSettings.model_validate(settings)
    )
    numbers = {parameter: number for number, parameter in enumerate(parameters)}
    return [
        (tuple(numbers[each] for each in group.parameters), group.lr_factor, group.decays)
        for group in groups
    ]


def test_parameters_are_one_group_in_their_order_by_default():
    assert split() == [((0, 1, 2, 3, 4, 5), 1.0, True)]
    assert split(optimizer={"decay_norms_and_biases": False}) == split()


def test_norms_and_biases_are_a_group_without_decay():
    optimizer = {"weight_decay": 0.1, "decay_norms_and_biases": False}
    assert split(optimizer=optimizer) == [((0, 2, 4), 1.0, True), ((1, 3, 5), 1.0, False)]


def test_the_head_has_its_factor():
    assert split(head_lr_factor=10.0) == [((0, 1, 2, 3), 1.0, True), ((4, 5), 10.0, True)]


def test_a_layer_s_factor_falls_with_its_distance_from_the_head():
    assert split(layer_decay=0.5, head_lr_factor=10.0) == [
        ((0, 1), 0.25, True),
        ((2, 3), 0.5, True),
        ((4, 5), 10.0, True),
    ]


def test_runs_that_share_frozen_epochs_have_the_same_groups():
    frozen = [split(freeze_epochs=1, layer_decay=decay) for decay in (0.5, 1.0)]
    assert [each for each, _, _ in frozen[0]] == [each for each, _, _ in frozen[1]]


def test_parameters_without_decay_keep_their_values_without_a_gradient():
    weight, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    settings = OptimizerSettings(name="sgd", lr=0.5, weight_decay=0.5, decay_norms_and_biases=False)
    groups = parameter_groups([weight, bias], [0, 0], TrainingSettings(optimizer=settings))
    optimizer = build_optimizer(groups, settings, CPU)
    weight.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert (weight.unique().item(), bias.unique().item()) == (0.75, 1.0)
