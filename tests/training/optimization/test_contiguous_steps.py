import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from canopy_search.training.optimization.contiguous_steps import (
    ContiguousAdam,
    ContiguousAdamW,
    ContiguousSGD,
)

Made = Callable[..., Optimizer]
PAIRS = [
    (Adam, ContiguousAdam, {"lr": 0.01, "weight_decay": 0.01}),
    (AdamW, ContiguousAdamW, {"lr": 0.01, "weight_decay": 0.01}),
    (SGD, ContiguousSGD, {"lr": 0.1, "weight_decay": 0.01, "momentum": 0.9}),
    (SGD, ContiguousSGD, {"lr": 0.1}),
]


def network() -> nn.Module:
    """Convolutions of all kinds: whole registers, odd numbers, depthwise, 1×1, not square."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(3, 32, 7),
            nn.Conv2d(32, 32, 3, groups=32),
            nn.Conv2d(32, 5, 3),
            nn.Conv2d(5, 7, (1, 3), bias=False),
            nn.Conv2d(7, 16, 1),
            nn.Conv2d(16, 16, 3),
        )
    return layers.to(memory_format=torch.channels_last)


def step(model: nn.Module, optimizer: Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = torch.empty_like(weight).normal_(generator=generator)
    optimizer.step()


def layout(model: nn.Module, optimizer: Optimizer) -> list[Any]:
    tensors = [
        (weight, weight.grad, *(v for v in optimizer.state[weight].values() if torch.is_tensor(v)))
        for weight in model.parameters()
    ]
    return [(t.shape, t.stride()) for each in tensors for t in each if t is not None]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("plain", "ours", "options"), PAIRS)
def test_it_updates_as_torch_s_own_bit_for_bit(
    plain: Made, ours: Made, options: dict[str, Any], threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        made = []
        for kind in (plain, ours):
            model = network()
            optimizer = kind(model.parameters(), fused=True, **options)
            for seed in range(4):
                step(model, optimizer, seed)
            made.append((model, optimizer))
    finally:
        torch.set_num_threads(before)
    (one, its), (other, theirs) = made
    for mine, torchs in zip(other.parameters(), one.parameters(), strict=True):
        assert torch.equal(mine, torchs)
    assert layout(one, its) == layout(other, theirs)
    mine, torchs = theirs.state_dict(), its.state_dict()
    for key, state in torchs["state"].items():
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(mine["state"][key][name]), torch.as_tensor(value))


def test_convolutions_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch's kernel is given is contiguous, but for what does not fill its registers."""
    seen: list[tuple[int, bool]] = []
    plain = Adam.step

    def looking(self: Adam, closure: Any = None) -> Any:
        weights = [weight for group in self.param_groups for weight in group["params"]]
        seen.extend((weight.numel(), weight.is_contiguous()) for weight in weights)
        return plain(self, closure)

    monkeypatch.setattr(Adam, "step", looking)
    model = network()
    step(model, ContiguousAdam(model.parameters(), fused=True), 0)
    assert all(is_contiguous for size, is_contiguous in seen if size % 16 == 0)
    assert not all(is_contiguous for _, is_contiguous in seen)


def test_weights_keep_their_shapes_when_a_step_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Adam, closure: Any = None) -> Any:
        raise RuntimeError("no memory")

    model = network()
    optimizer = ContiguousAdam(model.parameters(), fused=True)
    step(model, optimizer, 0)
    before = layout(model, optimizer)
    monkeypatch.setattr(Adam, "step", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        step(model, optimizer, 1)
    assert layout(model, optimizer) == before


def test_a_state_of_torch_s_own_goes_on() -> None:
    model, other = network(), network()
    optimizer = Adam(model.parameters(), fused=True)
    step(model, optimizer, 0)
    resumed = ContiguousAdam(other.parameters(), fused=True)
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer, 1)
    step(other, resumed, 1)
    for mine, torchs in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, torchs)


def test_a_weight_without_a_gradient_is_left_alone() -> None:
    model = network()
    optimizer = ContiguousAdam(model.parameters(), fused=True)
    before = [weight.detach().clone() for weight in model.parameters()]
    optimizer.step()
    for weight, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(weight, old)
