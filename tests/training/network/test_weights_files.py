from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from syrupy.assertion import SnapshotAssertion
from torch import Tensor, nn

from canopy_search.training.network.backbones import (
    backbone_to_fill,
    build_backbone,
    load_weights,
    weights_fit,
)
from canopy_search.training.network.model_file import TrainedModel, save_model
from canopy_search.training.network.weights_files import (
    WeightsFileError,
    read_weights,
    weights_digest,
    weights_identity,
)
from tests.training.network.test_pretrained import Code

pytestmark = pytest.mark.usefixtures("one_thread")

State = dict[str, Tensor]


def build(name: str = "tinycnn_8", *, labels: int = 2, weights: str = "none", seed: int = 0):
    return build_backbone(name, labels=labels, image_px=32, weights=weights, seed=seed)


def fit(weights: Path, name: str = "tinycnn_8"):
    return weights_fit(name, str(weights), labels=3, image_px=32)


def refusal(weights: Path, name: str = "tinycnn_8") -> str:
    with pytest.raises(WeightsFileError) as caught:
        fit(weights, name)
    line = str(caught.value)
    assert line.isprintable()
    assert "weights_only" not in line
    return line.replace(str(weights), "FILE")


def checkpoint(key: str) -> Callable[[State, Path], None]:
    return lambda state, path: torch.save({key: state, "epoch": 3}, path)


def prefixed(*prefixes: str) -> Callable[[State, Path], None]:
    def write(state: State, path: Path) -> None:
        for prefix in prefixes:
            state = {prefix + name: tensor for name, tensor in state.items()}
        torch.save(state, path)

    return write


def as_model(state: State, path: Path) -> None:
    network = build(labels=5)
    network.load_state_dict(state)
    settings = {"data": {}, "training": {"backbone": "tinycnn_8", "weights": "none"}}
    save_model(path, TrainedModel(network, tuple("abcde"), 32, settings, {}))


WAYS: dict[str, Callable[[State, Path], Any]] = {
    "a.safetensors": save_file,
    "a.pth": torch.save,
    "before torch 1.6.pth": lambda state, path: torch.save(
        state, path, _use_new_zipfile_serialization=False
    ),
    "a checkpoint.pt": checkpoint("state_dict"),
    "averaged.pt": lambda state, path: torch.save(
        {"state_dict": {"x": torch.zeros(1)}, "state_dict_ema": state}, path
    ),
    "nested.pt": lambda state, path: torch.save({"model": {"state_dict": state}}, path),
    "Canopy's own.pt": as_model,
    "DataParallel.pth": prefixed("module."),
    "compiled Lightning.pth": prefixed("_orig_mod.", "model."),
    "half precision.pth": lambda state, path: torch.save(
        {name: each.half() if each.is_floating_point() else each for name, each in state.items()},
        path,
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_all_but_the_head_comes_from_the_file(way: str, tmp_path: Path) -> None:
    trained, path = build(labels=5, seed=9).state_dict(), tmp_path / way
    WAYS[way](dict(trained), path)

    state = build(labels=3, weights=str(path)).state_dict()

    for name, tensor in state.items():
        if name.startswith("head."):
            assert tensor.shape[0] == 3
        else:
            torch.testing.assert_close(tensor, trained[name], rtol=1e-3, atol=1e-4)
    assert fit(path).share == 1


def test_the_head_is_new_even_if_it_would_fit(tmp_path: Path) -> None:
    torch.save(build(labels=3, seed=9).state_dict(), tmp_path / "a.pth")
    heads = [
        build(labels=3, weights=weights, seed=4).head.weight
        for weights in ("none", str(tmp_path / "a.pth"))
    ]
    assert torch.equal(*heads)


def test_what_does_not_fit_is_named(tmp_path: Path, words: SnapshotAssertion) -> None:
    state = build(labels=5, seed=9).state_dict()
    state["features.0.0.weight"] = torch.zeros(4, 3, 3, 3)
    state["extra\x1b.weight"] = torch.zeros(1)
    del state["features.0.1.bias"]
    torch.save(state, tmp_path / "a.pth")
    assert str(fit(tmp_path / "a.pth")).replace(str(tmp_path), "FOLDER") == words


def test_a_file_of_another_network_is_refused(tmp_path: Path, words: SnapshotAssertion) -> None:
    torch.save(build("tinyresnet_8").state_dict(), tmp_path / "other.pth")
    torch.save(build("tinycnn_16").state_dict(), tmp_path / "wider.pth")
    said = [refusal(tmp_path / "other.pth"), refusal(tmp_path / "wider.pth")]
    assert "\n".join(said) == words
    with pytest.raises(WeightsFileError, match="tinycnn_8"):
        build(weights=str(tmp_path / "wider.pth"))


ODD: dict[str, Callable[[Path], Any]] = {
    "missing.pth": lambda path: None,
    "a folder.pth": Path.mkdir,
    "empty.pth": Path.touch,
    "text.pth": lambda path: path.write_text("weights"),
    "empty.safetensors": Path.touch,
    "a long header.safetensors": lambda path: path.write_bytes(b"\xff" * 64),
    "torch's format.safetensors": lambda path: torch.save({"a": torch.zeros(1)}, path),
    "a list.pth": lambda path: torch.save([1, 2], path),
    "no tensors.pth": lambda path: torch.save({"state_dict": {"a": 1}}, path),
    "numbers for names.pth": lambda path: torch.save({1: torch.zeros(1)}, path),
    "one tensor.pth": lambda path: torch.save(torch.zeros(3), path),
    "huge.pth": lambda path: torch.save({"head.w": torch.zeros(1).expand(10**12)}, path),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_contains_no_weights_is_named_with_the_remedy(
    kind: str, tmp_path: Path, words: SnapshotAssertion
) -> None:
    ODD[kind](tmp_path / kind)
    assert refusal(tmp_path / kind) == words


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = build(labels=5).state_dict()
    state["features.0.1.bias"][0] = torch.nan
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsFileError, match=r"NaN or infinity in features\.0\.1\.bias"):
        fit(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "odd",
    [
        torch.zeros(8, 3, 3, 3).to_sparse(),
        torch.zeros(8, 3, 3, 3, device="meta"),
        torch.zeros(8, 3, 3, 3, dtype=torch.complex64),
        torch.zeros(8, 3, 3, 3, dtype=torch.int64),
    ],
    ids=["sparse", "without data", "complex", "whole numbers"],
)
@pytest.mark.filterwarnings("ignore:Validating sparse")
def test_a_tensor_that_cannot_be_copied_does_not_fit(tmp_path: Path, odd: Tensor) -> None:
    torch.save(build(labels=5).state_dict() | {"features.0.0.weight": odd}, tmp_path / "a.pth")
    assert fit(tmp_path / "a.pth").missing == ("features.0.0.weight",)
    assert build(weights=str(tmp_path / "a.pth")).features[0][0].weight.isfinite().all()


@pytest.mark.parametrize("nested", [False, True])
def test_code_in_a_weights_file_is_never_run(tmp_path: Path, nested: bool) -> None:
    code = Code(tmp_path / "ran")
    state: dict[str, Any] = build().state_dict() | {"x": code}
    torch.save({"state_dict": state} if nested else state, tmp_path / "a.pth")
    assert "none of it was run" in refusal(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


def test_its_bytes_are_its_identity(tmp_path: Path) -> None:
    state = build().state_dict()
    for name in ("a.pth", "b.pth"):
        save_file(state, tmp_path / name)
    save_file(build(seed=1).state_dict(), tmp_path / "c.pth")
    same, too, other = (weights_identity(str(tmp_path / f"{name}.pth")) for name in "abc")
    assert same == too != other
    assert [weights_identity(each) for each in ("none", "imagenet")] == ["none", "imagenet"]


def test_a_file_that_changes_while_it_is_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(build().state_dict(), path)
    weights_digest(str(path))
    torch.save(build(seed=1).state_dict(), path)
    with pytest.raises(WeightsFileError, match="changed while it was in use"):
        read_weights(str(path))


def test_embeddings_are_interpolated_to_the_image_size(tmp_path: Path) -> None:
    shape = {"labels": 3, "weights": "none", "seed": 1}
    small = build_backbone("vit_b_32", image_px=64, **shape)
    torch.save(small.state_dict(), tmp_path / "a.pth")
    fitted = weights_fit("vit_b_32", str(tmp_path / "a.pth"), labels=3, image_px=96)
    assert not fitted.missing
    assert fitted.taken["encoder.pos_embedding"].shape == (1, 1 + 3 * 3, 768)


def test_versions_of_layers_are_the_networks_own(tmp_path: Path) -> None:
    trained = build("mnasnet0_5", labels=5, seed=9)
    torch.save(trained.state_dict(), tmp_path / "a.pth")
    network: nn.Module = build("mnasnet0_5", weights=str(tmp_path / "a.pth"))
    filled = backbone_to_fill("mnasnet0_5", labels=2, image_px=32, weights="none")
    load_weights(filled, network.state_dict())
    assert torch.equal(network.layers[0].weight, trained.layers[0].weight)
