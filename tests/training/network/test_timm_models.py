import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.data.normalise import PixelScale
from canopy_search.training.errors import SettingsError, TrainingError, UnknownNameError
from canopy_search.training.network.backbones import (
    build_backbone,
    check_backbone,
    check_backbone_fits,
    check_weights,
    pixel_scale,
    published_weights,
    weights_fit,
)
from canopy_search.training.network.model_file import TrainedModel, load_model, save_model
from canopy_search.training.network.pretrained import PretrainedWeightsError

pytestmark = pytest.mark.usefixtures("one_thread")

# One of each way in which timm ends a network, at a size that it takes.
FAMILIES = {
    "timm/test_resnet": 32,
    "timm/test_convnext": 32,
    "timm/test_efficientnet": 32,
    "timm/test_vit": 64,
    "timm/test_mambaout": 32,
    "timm/mobilenetv3_small_050": 32,
    "timm/caformer_s18": 32,  # a perceptron as head
    "timm/deit_tiny_distilled_patch16_224": 32,  # two heads
    "timm/levit_128s": 64,  # a head with normalisation
}
HEAVY = {"timm/caformer_s18", "timm/deit_tiny_distilled_patch16_224", "timm/levit_128s"}


def build(name: str, image_px: int, **options: Any):
    return build_backbone(
        name, image_px=image_px, **{"labels": 3, "weights": "none", "seed": 0, **options}
    )


@pytest.mark.parametrize(
    ("name", "image_px"),
    [
        pytest.param(name, px, marks=[pytest.mark.exhaustive] if name in HEAVY else [])
        for name, px in FAMILIES.items()
    ],
)
def test_it_is_built_saved_and_loaded(name: str, image_px: int, tmp_path: Path) -> None:
    check_backbone_fits(name, labels=3, image_px=image_px)
    network = build(name, image_px).eval()
    settings = {"data": {}, "training": {"backbone": name, "weights": "none"}}
    save_model(
        tmp_path / "model.pt", TrainedModel(network, ("a", "b", "c"), image_px, settings, {})
    )
    images = torch.randn(2, 3, image_px, image_px)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(images)
        loaded = load_model(tmp_path / "model.pt").network(images)
    assert logits.shape == (2, 3)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, loaded)


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = build("timm/test_vit", 64, seed=7)
    torch.manual_seed(2)
    again, other = build("timm/test_vit", 64, seed=7), build("timm/test_vit", 64, seed=8)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_pixels_are_scaled_as_its_weights_expect() -> None:
    half = (0.5, 0.5, 0.5)
    assert pixel_scale("timm/vit_base_patch16_224.augreg_in21k") == PixelScale(half, half)
    assert pixel_scale("timm/resnet18.a1_in1k") == pixel_scale("resnet18")


def test_an_unknown_name_or_tag_names_the_nearest() -> None:
    for name, nearest in {
        "timm/resnet81": "timm/resnet",
        "timm/convnext_tiny.fb_in22": "timm/convnext_tiny.fb_in22k",
        "timm/hf_hub:someone/something": "timm/",
        "timm/": "timm/",
    }.items():
        with pytest.raises(UnknownNameError, match=nearest):
            check_backbone(name)
    check_backbone("timm/convnext_tiny.fb_in22k")
    check_backbone("timm/convnext_tiny")


@pytest.mark.parametrize(
    ("name", "image_px", "fitting"),
    [("timm/test_vit", 72, 80), ("timm/efficientformer_l1", 160, 208)],
)
def test_images_of_another_size_are_refused_with_one_that_fits(
    name: str, image_px: int, fitting: int
) -> None:
    with pytest.raises(SettingsError, match=f"'{name}' .* {image_px} px; {fitting} px "):
        check_backbone_fits(name, labels=3, image_px=image_px)


def test_without_timm_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for check in (pixel_scale, published_weights, lambda name: check_weights(name, "imagenet")):
        with pytest.raises(TrainingError) as caught:
            check("timm/test_resnet")
        assert str(caught.value) == words


def test_where_its_weights_are_published() -> None:
    published = published_weights("timm/convnext_tiny.fb_in22k")
    assert published is not None
    assert published.url == (
        "https://huggingface.co/timm/convnext_tiny.fb_in22k/resolve/main/model.safetensors"
    )
    assert published_weights("timm/seresnet18.untrained") is None
    with pytest.raises(SettingsError, match="no published weights"):
        check_weights("timm/seresnet18.untrained", "imagenet")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, torch.Tensor]:
    """Weights of `test_vit` in the place of those that timm downloads."""
    with torch.random.fork_rng():
        torch.manual_seed(99)
        state: dict[str, torch.Tensor] = timm.create_model("test_vit").state_dict()
    save_file(state, tmp_path / "model.safetensors")

    def download(repo_id: str, filename: str, **_options: Any) -> str:
        assert (repo_id, filename) == ("timm/test_vit.r160_in1k", "model.safetensors")
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
    return state


def test_published_weights_are_kept_and_the_head_is_new(
    published: dict[str, torch.Tensor],
) -> None:
    state = build("timm/test_vit.r160_in1k", 64, weights="imagenet").state_dict()
    key = "blocks.0.attn.qkv.weight"
    assert torch.equal(state[key], published[key])
    assert state["pos_embed"].shape[1] < published["pos_embed"].shape[1]
    assert state["head.weight"].shape == (3, published["head.weight"].shape[1])


def test_weights_that_cannot_be_downloaded_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(**_arguments: Any) -> str:
        raise ConnectionError("no network here")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
    with pytest.raises(PretrainedWeightsError, match=r"r160_in1k: no network here; set training"):
        build("timm/test_vit.r160_in1k", 64, weights="imagenet")


def test_a_weights_file_gets_embeddings_of_the_image_size(tmp_path: Path) -> None:
    trained = build("timm/test_vit", 64, labels=5, seed=9)
    torch.save(trained.state_dict(), tmp_path / "a.pth")
    fit = weights_fit("timm/test_vit", str(tmp_path / "a.pth"), labels=3, image_px=96)
    assert not fit.missing
    network = build("timm/test_vit", 96, weights=str(tmp_path / "a.pth"))
    key = "blocks.0.attn.qkv.weight"
    assert torch.equal(network.state_dict()[key], trained.state_dict()[key])
