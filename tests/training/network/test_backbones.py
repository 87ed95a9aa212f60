import re
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from syrupy.assertion import SnapshotAssertion
from torch import Tensor, nn

from canopy_search.training.errors import SettingsError, UnknownNameError
from canopy_search.training.network import backbones
from canopy_search.training.network.backbones import (
    accepts_single_image,
    backbone_names,
    build_backbone,
    check_backbone,
    check_backbone_fits,
    meta_backbone,
    start_head_at,
)
from canopy_search.training.network.layers import Float32Conv2d, Float32Linear
from canopy_search.training.network.model_file import TrainedModel, load_model, save_model
from canopy_search.training.network.pretrained import PretrainedWeightsError
from canopy_search.training.network.small_nets import SMALL_NETS

# One of every family, at a small size that it takes.
FAMILIES = {
    "tinycnn_8": 16,
    "tinyresnet_8": 16,
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
    "vgg11": 32,
    "vit_b_32": 32,
    "wide_resnet50_2": 32,
}
# Built and run by `make test-all` alone; a lighter one of the others goes the same way.
HEAVY = {
    "convnext_tiny",
    "densenet121",
    "efficientnet_v2_s",
    "maxvit_t",
    "mobilenet_v2",
    "regnet_y_400mf",
    "resnext50_32x4d",
    "swin_t",
    "swin_v2_t",
    "vgg11",
    "vit_b_32",
    "wide_resnet50_2",
}
# What these compute depends on more than their weights once they started from ImageNet's.
UNLIKE_UNTRAINED = {"googlenet", "inception_v3", "mnasnet0_5"}

pytestmark = pytest.mark.usefixtures("one_thread")


def build(name: str, *, labels: int = 3, image_px: int = 32, seed: int = 0, **options: Any):
    return build_backbone(
        name, labels=labels, image_px=image_px, seed=seed, **{"weights": "none", **options}
    )


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    theirs = second.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in first.state_dict().items())


def test_names_are_ours_and_all_of_torchvisions():
    names = backbone_names()
    assert len(names) == len(set(names))
    assert {"tinycnn_8", "tinyresnet_16", "resnet18", "resnet50", "resnet152"} <= set(names)
    assert set(torchvision.models.list_models(module=torchvision.models)) <= set(names)


def test_every_family_of_torchvision_is_sampled():
    def family(name: str) -> str:
        module: str = torchvision.models.get_model_builder(name).__module__
        return module

    all_names = torchvision.models.list_models(module=torchvision.models)
    sampled = {family(name) for name in FAMILIES if name in all_names}
    assert sampled == {family(name) for name in all_names}


def exhaustive(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.exhaustive)


@pytest.mark.parametrize("name", [exhaustive(name) if name in HEAVY else name for name in FAMILIES])
def test_passes_its_own_check_and_gives_nothing_but_logits_in_training_too(name: str):
    image_px = FAMILIES[name]
    check_backbone_fits(name, labels=3, image_px=image_px)
    with torch.no_grad():
        logits = build(name, image_px=image_px)(torch.randn(2, 3, image_px, image_px))
    assert isinstance(logits, Tensor)
    assert logits.shape == (2, 3)


@pytest.mark.parametrize(
    "name", ["tinycnn_8", "resnet18", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5"]
)
def test_logits_are_float32_under_autocast(name: str):
    model = build(name).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(torch.randn(2, 3, 32, 32)).dtype == torch.float32


def test_logits_under_autocast_are_finer_than_bfloat16():
    model = build("tinycnn_16", labels=50).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.randn(8, 3, 32, 32))
    assert not torch.equal(logits, logits.bfloat16().float())


def test_the_float32_head_has_the_gradient_of_a_plain_one():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain, ours = nn.Linear(4, 2), Float32Linear(4, 2)
        features = torch.randn(3, 4)
    ours.load_state_dict(plain.state_dict())
    plain(features).square().sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ours(features).square().sum()
    loss.backward()
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad)


def test_an_untrained_network_is_torchvisions_own():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = torchvision.models.vit_b_32(weights=None, num_classes=3, image_size=32)
    ours = build("vit_b_32", seed=5)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert same_weights(ours, theirs)


def test_squeezenet_can_say_no():
    # Its own ReLU behind the head would leave no logit below 0, no probability below one half.
    logits = build("squeezenet1_1", labels=50).eval()(torch.randn(4, 3, 32, 32))
    assert (logits < 0).any()


@pytest.mark.parametrize("name", ["tinycnn_8", "resnet18", "shufflenet_v2_x0_5"])
def test_weights_depend_on_the_seed_alone(name: str):
    torch.manual_seed(1)
    first = build(name, seed=7)
    torch.manual_seed(2)
    again, other = build(name, seed=7), build(name, seed=8)
    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_building_leaves_the_generator_as_it_was():
    before = torch.get_rng_state()
    build("tinycnn_8", seed=7)
    check_backbone_fits("tinycnn_8", labels=3, image_px=32)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_name_names_the_nearest(words: SnapshotAssertion):
    with pytest.raises(UnknownNameError, match=r"'resnet81'.* 'resnet18'") as error:
        check_backbone("resnet81")
    message = str(error.value)
    assert message[: message.index(" 'resnet", 20)] == words  # which others are near may change
    with pytest.raises(UnknownNameError, match="'tinycnn_8'"):
        build("tinycnn_9")
    with pytest.raises(UnknownNameError, match="'efficientnet_b0'"):
        check_backbone_fits("efficentnet_b0", labels=3, image_px=32)
    check_backbone("resnet152")


@pytest.mark.parametrize(
    ("name", "image_px", "fitting"),
    [
        exhaustive("vit_b_16", 100, 112),
        ("vit_b_32", 100, 128),
        exhaustive("maxvit_t", 100, 224),
    ],
)
def test_a_network_made_for_one_size_names_the_next_that_fits(
    name: str, image_px: int, fitting: int
):
    with pytest.raises(SettingsError, match=f"'{name}' .* {image_px} px; {fitting} px "):
        build(name, image_px=image_px)
    check_backbone_fits(name, labels=3, image_px=fitting)


@pytest.mark.parametrize(
    ("name", "image_px", "fitting"), [("alexnet", 32, 64), ("inception_v3", 64, 80)]
)
def test_the_check_finds_images_too_small_without_building(
    name: str, image_px: int, fitting: int, words: SnapshotAssertion
):
    with pytest.raises(SettingsError, match=f" {image_px} px; {fitting} px ") as error:
        check_backbone_fits(name, labels=3, image_px=image_px)
    assert str(error.value).partition(" (")[0] == words  # torch's own reason follows


def published_state(name: str, **options: Any) -> dict[str, Tensor]:
    """Makes what torchvision would download: a state for ImageNet's 1000 classes."""
    with torch.random.fork_rng():
        torch.manual_seed(99)
        model = torchvision.models.get_model(name, weights=None, num_classes=1000, **options)
    state: dict[str, Tensor] = model.state_dict()
    return state


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch):
    """Puts a state in the place of the published one."""

    def replace(state: dict[str, Tensor]) -> None:
        monkeypatch.setattr(backbones, "pretrained_state", lambda _weights: copy(state))

    return replace


@pytest.mark.parametrize(
    ("name", "image_px", "head", "options"),
    [
        ("resnet18", 32, "fc.", {}),
        ("squeezenet1_1", 32, "classifier.1.", {}),
        ("mobilenet_v3_small", 32, "classifier.3.", {}),
        exhaustive("densenet121", 32, "classifier.", {}),
        exhaustive("googlenet", 32, "fc.", {"init_weights": True}),
        ("inception_v3", 75, "fc.", {"init_weights": True}),
        exhaustive("maxvit_t", 224, "classifier.5.", {}),
    ],
)
def test_pretrained_weights_are_kept_and_the_head_is_new(
    download: Any, name: str, image_px: int, head: str, options: dict[str, Any]
):
    published = published_state(name, **options)
    download(published)
    model = build(name, weights="imagenet", image_px=image_px, labels=4, seed=3)
    state = model.state_dict()
    body = {key: value for key, value in state.items() if not key.startswith(head)}
    assert len(body) == len(state) - sum(key.startswith(head) for key in state) > 0
    assert all(torch.equal(value, published[key]) for key, value in body.items())
    assert all(len(state[key]) == 4 for key in state if key.startswith(head))
    with torch.no_grad():
        assert model(torch.randn(2, 3, image_px, image_px)).shape == (2, 4)
    assert isinstance(model.get_submodule(head.rstrip(".")), Float32Linear | Float32Conv2d)


def test_a_new_head_depends_on_the_seed_alone(download: Any):
    download(published_state("resnet18"))
    first, again, other = (build("resnet18", weights="imagenet", seed=seed) for seed in (3, 3, 4))
    assert same_weights(first, again)
    assert not torch.equal(first.fc.weight, other.fc.weight)


def test_pretrained_position_embeddings_are_interpolated_to_the_image_size(download: Any):
    published = published_state("vit_b_32")
    download(dict(published))
    model = build("vit_b_32", weights="imagenet", image_px=96)
    assert torch.equal(model.conv_proj.weight, published["conv_proj.weight"])
    class_token, grid = model.encoder.pos_embedding[0, 0], model.encoder.pos_embedding[0, 1:]
    assert torch.equal(class_token, published["encoder.pos_embedding"][0, 0])
    # The middle of 3×3 is where the middle of 7×7 was.
    torch.testing.assert_close(grid[4], published["encoder.pos_embedding"][0, 1 + 24])
    assert model.encoder.pos_embedding.shape == (1, 1 + 3 * 3, 768)
    assert model(torch.randn(2, 3, 96, 96)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        exhaustive(name, weights)
        if name in HEAVY or (weights == "imagenet" and name not in UNLIKE_UNTRAINED)
        else (name, weights)
        for name in FAMILIES
        if name not in SMALL_NETS
        for weights in ("none", "imagenet")
    ],
)
def test_a_saved_model_gives_the_same_logits_once_loaded(
    download: Any, tmp_path: Path, name: str, weights: Any
):
    image_px = FAMILIES[name]
    # Weights of the inner logits are published with these two.
    options = {"init_weights": False} if name in {"googlenet", "inception_v3"} else {}
    if weights == "imagenet":
        sized = {"vit_b_32": {"image_size": image_px}}.get(name, {})
        download(published_state(name, **options, **sized))
    network = build(name, weights=weights, image_px=image_px).eval()
    settings = {"data": {}, "training": {"backbone": name, "weights": weights}}
    save_model(
        tmp_path / "model.pt", TrainedModel(network, ("a", "b", "c"), image_px, settings, {})
    )
    images = torch.randn(2, 3, image_px, image_px)
    with torch.no_grad():
        loaded = load_model(tmp_path / "model.pt").network(images)
        assert torch.equal(loaded, network(images))


def test_published_names_of_densenets_layers_are_understood(download: Any):
    published = published_state("densenet121")
    old_name = re.compile(r"(denselayer\d+\.(?:norm|conv))([12]\.)")
    download({old_name.sub(r"\1.\2", key): value for key, value in published.items()})
    state = build("densenet121", weights="imagenet").state_dict()
    key = "features.denseblock1.denselayer1.norm1.weight"
    assert torch.equal(state[key], published[key])


def test_weights_of_another_network_are_a_failure_of_the_weights(download: Any):
    download({"fc.weight": torch.zeros(1)})
    with pytest.raises(PretrainedWeightsError, match="Missing key"):
        build("resnet18", weights="imagenet")


@pytest.mark.parametrize("name", sorted(SMALL_NETS))
def test_our_small_nets_have_no_imagenet_weights(name: str, words: SnapshotAssertion):
    with pytest.raises(SettingsError, match=f"'{name}' ") as error:
        build(name, weights="imagenet")
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("name", "image_px", "accepted"),
    [("resnet18", 32, False), ("resnet18", 64, True), ("tinycnn_8", 32, True)],
)
def test_batch_normalisation_of_a_single_value_is_foreseen(
    name: str, image_px: int, accepted: bool
):
    assert accepts_single_image(name, labels=3, image_px=image_px) == accepted
    images = torch.randn(1, 3, image_px, image_px)
    model = build(name, image_px=image_px)
    if accepted:
        assert model(images).shape == (1, 3)
    else:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            model(images)


def test_a_head_without_a_bias_has_no_prior() -> None:
    network = meta_backbone("maxvit_t", labels=2, image_px=224)
    with pytest.raises(SettingsError, match=r"training\.head_bias: .* no bias; set it to default"):
        start_head_at(network, torch.zeros(2))
