from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from canopy_search.training.device.memory import step_memory
from canopy_search.training.errors import SettingsError
from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.network.layers import checkpoint_blocks
from canopy_search.training.resolve import resolve_settings
from canopy_search.training.settings import TrainingSettings
from tests.training.device.test_memory import kept_bytes

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = {"tinycnn_8": 32, "tinyresnet_8": 32, "mobilenet_v3_small": 32, "timm/test_vit": 64}
SLOW = {
    "resnet18": 32,
    "efficientnet_b0": 32,
    "convnext_tiny": 32,
    "densenet121": 32,
    "regnet_x_400mf": 32,
    "swin_t": 32,
    "vit_b_32": 32,
    "timm/test_resnet": 32,
    "timm/test_convnext": 32,
    "timm/test_efficientnet": 32,
    "timm/test_mambaout": 32,
    "timm/caformer_s18": 32,
    "timm/resnetv2_50": 32,
    "timm/levit_128s": 64,
}


def build(name: str, image_px: int) -> nn.Module:
    return build_backbone(name, labels=3, image_px=image_px, weights="none", seed=0)


def after_two_steps(network: nn.Module, image_px: int) -> dict[str, Tensor]:
    """Trains with dropout and batch normalisation."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        network(torch.randn(4, 3, image_px, image_px)).square().mean().backward()
        optimizer.step()
    return network.state_dict()


@pytest.mark.parametrize(
    ("name", "image_px"),
    [
        *QUICK.items(),
        *[pytest.param(*each, marks=pytest.mark.exhaustive) for each in SLOW.items()],
    ],
)
def test_no_number_changes_and_less_is_kept(name: str, image_px: int) -> None:
    plain, network = build(name, image_px), build(name, image_px)
    checkpoint_blocks(network)
    pixels = torch.zeros(4, 3, image_px, image_px)
    with torch.random.fork_rng():
        expected = after_two_steps(plain, image_px)
        found = after_two_steps(network, image_px)
        assert list(found) == list(expected)
        for key, tensor in found.items():
            assert torch.equal(tensor, expected[key]), key
        if name != "densenet121":  # whose layers take lists
            assert kept_bytes(network, pixels) < kept_bytes(plain, pixels)


def test_a_copy_computes_with_its_own_weights() -> None:
    network = build("tinyresnet_8", 32)
    checkpoint_blocks(network)
    copy = deepcopy(network).eval()
    pixels = torch.ones(1, 3, 32, 32)
    with torch.no_grad():
        before = copy(pixels)
        for weight in network.parameters():
            weight.zero_()
        assert torch.equal(copy(pixels), before)


def test_less_memory_is_expected() -> None:
    settings = TrainingSettings(backbone="resnet18", precision="fp32", device="cpu", threads=1)
    plain, less = (
        step_memory(
            settings.model_copy(update={"gradient_checkpointing": on}), labels=3, image_px=64
        )
        for on in (False, True)
    )
    assert less.image_bytes < 0.6 * plain.image_bytes
    assert less.fixed_bytes == plain.fixed_bytes


def test_a_compiled_network_is_refused() -> None:
    settings = TrainingSettings(device="cpu", gradient_checkpointing=True)
    assert resolve_settings(settings).compile == "off"
    with pytest.raises(SettingsError, match=r"^training\.gradient_checkpointing: .* to off"):
        resolve_settings(settings.model_copy(update={"compile": "on"}))
