import pytest
import torch
from torch import nn
from torch.nn import functional

from canopy_search.training.network import small_nets
from canopy_search.training.network.small_nets import SMALL_NETS

PARAMETERS_WITH_10_LABELS = {
    "tinycnn_8": 25_298,
    "tinycnn_16": 98_970,
    "tinyresnet_8": 19_954,
    "tinyresnet_16": 78_042,
}


FLOATS_IN_A_REGISTER = 16  # of AVX-512

pytestmark = pytest.mark.usefixtures("one_thread")


def test_parameter_counts_are_those_documented():
    counts = {
        name: sum(parameter.numel() for parameter in build(10).parameters())
        for name, build in SMALL_NETS.items()
    }
    assert counts == PARAMETERS_WITH_10_LABELS
    documentation = " ".join((small_nets.__doc__ or "").split())
    for name, count in counts.items():
        assert f"{name} {count:,}" in documentation


@pytest.mark.parametrize("name", SMALL_NETS)
@pytest.mark.parametrize("image_px", [16, 17, 48])
def test_gives_a_logit_for_every_image_and_label(name: str, image_px: int):
    model = SMALL_NETS[name](5)
    assert model(torch.randn(2, 3, image_px, image_px)).shape == (2, 5)


@pytest.mark.parametrize("name", SMALL_NETS)
def test_learns_to_tell_two_pictures_apart(name: str):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SMALL_NETS[name](1)
        images = torch.randn(2, 3, 16, 16)
    targets = torch.tensor([[0.0], [1.0]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(model(images), targets)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("name", SMALL_NETS)
def test_no_convolution_is_one_whose_gradient_leaves_its_memory(name: str):
    """Heap corruption in oneDNN 3.12, see `small_nets`; training one would end all tests here."""
    for module in SMALL_NETS[name](5).modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            assert module.stride == (1, 1) or module.in_channels >= FLOATS_IN_A_REGISTER
