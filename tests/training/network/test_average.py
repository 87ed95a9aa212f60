from collections.abc import Iterator

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from canopy_search.training.network.average import averaged


class Counting(nn.Module):
    """A layer with a buffer of whole numbers, like the positions of a Swin's window."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.register_buffer("positions", torch.arange(1000))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer(features)
        return result


def steps(model: nn.Module) -> Iterator[None]:
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        yield


def test_weights_and_statistics_are_averaged_as_torch_averages_them() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    ours = averaged(model, 0.9)
    torchs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in steps(model):
        ours.update_parameters(model)
        torchs.update_parameters(model)

    found, expected = ours.state_dict(), torchs.state_dict()
    floats = [name for name in expected if expected[name].is_floating_point()]
    assert len(floats) == 6
    assert all(torch.equal(found[name], expected[name]) for name in floats)
    assert not torch.equal(found["module.0.weight"], model[0].weight)


def test_whole_numbers_are_copied() -> None:
    model = Counting()
    ours = averaged(model, 0.999)
    for _ in steps(model):
        ours.update_parameters(model)

    assert torch.equal(ours.module.positions, torch.arange(1000))
    assert ours.module.layer[1].num_batches_tracked == 5
