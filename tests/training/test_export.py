import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from syrupy.assertion import SnapshotAssertion

from canopy_search.training import export as module
from canopy_search.training.errors import CheckpointError, ExportError
from canopy_search.training.export import export
from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.network.model_file import TrainedModel, load_model, save_model
from tests.planet_data import write_planet_data


def write_model(path: Path, backbone: str = "tinycnn_8", *, image_px: int = 32, **training: Any):
    network = build_backbone(backbone, labels=3, image_px=image_px, weights="none", seed=0)
    settings = {"data": {}, "training": {"backbone": backbone, "weights": "none"} | training}
    thresholds = {"f1": (0.0, 0.5, -1.0)}
    save_model(path, TrainedModel(network, ("a", "b c", "ü"), image_px, settings, {}, thresholds))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "best.pt")


@pytest.mark.parametrize(
    ("backbone", "image_px"),
    [
        ("tinycnn_8", 32),
        pytest.param("timm/test_vit", 64, marks=pytest.mark.exhaustive),
        *[
            pytest.param(name, 32, marks=pytest.mark.exhaustive)
            for name in (
                "tinyresnet_8",
                "resnet18",
                "mobilenet_v3_small",
                "swin_t",
                "vit_b_32",
                "timm/test_resnet",
                "timm/test_convnext",
                "timm/test_efficientnet",
                "timm/test_mambaout",
            )
        ],
    ],
)
def test_onnx_computes_the_same_for_any_number_of_images(
    tmp_path: Path, backbone: str, image_px: int
) -> None:
    model = write_model(tmp_path / "best.pt", backbone, image_px=image_px)
    exported = export(model, tmp_path / "model.onnx", [])
    assert exported.images == module.MOST_IMAGES
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3):
        pixels = torch.randn(count, 3, image_px, image_px)
        [logits] = session.run(["logits"], {"pixels": pixels.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(
                logits, load_model(model).network(pixels), rtol=1e-3, atol=1e-4
            )
    assert_complete(session.get_modelmeta().custom_metadata_map)


def assert_complete(metadata: dict[str, str]) -> None:
    values = {name: json.loads(text) for name, text in metadata.items() if "canopy." in name}
    assert values["canopy.labels"] == ["a", "b c", "ü"]
    assert values["canopy.thresholds"] == {"f1": [0.0, 0.5, -1.0]}
    assert values["canopy.probabilities"] == "sigmoid"
    assert len(values["canopy.pixel_mean"]) == len(values["canopy.pixel_std"]) == 3
    assert values["canopy.image_px"] >= 32


def test_safetensors_hold_the_same_weights(model: Path, tmp_path: Path) -> None:
    assert export(model, tmp_path / "model.safetensors", []).largest_difference == 0
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert_complete(file.metadata())
        for name, tensor in load_model(model).network.state_dict().items():
            assert torch.equal(file.get_tensor(name), tensor)
    again = build_backbone(
        "tinycnn_8",
        labels=2,
        image_px=32,
        weights=str(tmp_path / "model.safetensors"),
        seed=0,
    )
    first = load_model(model).network.state_dict()["features.0.0.weight"]
    assert torch.equal(again.state_dict()["features.0.0.weight"], first)


def test_it_is_compared_on_the_users_own_images(model: Path, tmp_path: Path) -> None:
    write_planet_data(tmp_path, images=5)
    (tmp_path / "train-jpg" / "damaged.jpg").write_bytes(b"no image")
    images = sorted((tmp_path / "train-jpg").glob("*.jpg"))
    assert export(model, tmp_path / "m.safetensors", images).images == 5
    with pytest.raises(ExportError, match="no image can be read"):
        export(model, tmp_path / "n.safetensors", [tmp_path / "train-jpg" / "damaged.jpg"])
    assert not (tmp_path / "n.safetensors").exists()


def test_what_computes_something_else_is_not_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(trained: TrainedModel, _batch: torch.Tensor) -> tuple[bytes, Any]:
        return b"x", lambda batch: trained.network(batch).detach().numpy() + 1

    for difference in (wrong, lambda *_: (b"x", lambda batch: np.full((1, 1), np.nan))):
        monkeypatch.setattr(module, "_WRITERS", {".onnx": difference})
        with pytest.raises(ExportError, match="not written, because its logits differ"):
            export(model, tmp_path / "m.onnx", [])
    assert not (tmp_path / "m.onnx").exists()


def test_without_the_packages_the_extra_is_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError) as caught:
        export(model, tmp_path / "m.onnx", [])
    assert str(caught.value) == words
    export(model, tmp_path / "m.safetensors", [])


def test_other_names_and_files_are_refused(model: Path, tmp_path: Path) -> None:
    for name in ("m.tflite", "m", "m.pt"):
        with pytest.raises(ExportError, match=r"\.onnx or \.safetensors"):
            export(model, tmp_path / name, [])
    (tmp_path / "other.pt").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"other\.pt"):
        export(tmp_path / "other.pt", tmp_path / "m.onnx", [])
    model.rename(tmp_path / "model.safetensors")
    with pytest.raises(ExportError, match="the model itself"):
        export(tmp_path / "model.safetensors", tmp_path / "model.safetensors", [])
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(IsADirectoryError):
        export(tmp_path / "model.safetensors", tmp_path / "folder.onnx", [])
