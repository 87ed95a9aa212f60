"""Pools whose gradient is the same each time on a GPU too."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.network.layers import RepeatableAvgPool2d


@pytest.mark.parametrize("size", [(6, 6), (2, 3), (7, 1), (13, 20)])
def test_means_of_slices_are_the_same_pool(size: tuple[int, int]) -> None:
    features = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    gradients = []
    for pooled in (
        RepeatableAvgPool2d((6, 6)).means_of_slices(features),
        functional.adaptive_avg_pool2d(features, (6, 6)),
    ):
        gradients.append((pooled, *torch.autograd.grad((pooled * weights).sum(), features)))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_networks_have_no_pool_that_torch_refuses(name: str) -> None:
    network = build_backbone(name, labels=2, image_px=64, weights="none", seed=0)
    pools = [layer for layer in network.modules() if isinstance(layer, nn.AdaptiveAvgPool2d)]
    assert [type(pool) for pool in pools] == [RepeatableAvgPool2d]
    features = torch.randn(1, 4, 9, 9)
    assert torch.equal(
        pools[0](features), functional.adaptive_avg_pool2d(features, pools[0].output_size)
    ), "on the CPU it is torch's"
