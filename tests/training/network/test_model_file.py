import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from canopy_search.training.data.images.conversion import AS_STORED
from canopy_search.training.errors import CheckpointError
from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.network.model_file import TrainedModel, load_model, save_model
from tests.training.network.test_pretrained import Code

pytestmark = pytest.mark.usefixtures("one_thread")

Content = dict[str, Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model file as `canopy train` writes it."""
    network = build_backbone("tinycnn_8", labels=2, image_px=16, weights="none", seed=0)
    settings = {"data": {}, "training": {"backbone": "tinycnn_8", "weights": "none"}}
    save_model(
        tmp_path / "model.pt",
        TrainedModel(network, ("a", "b"), 16, settings, {"val_ap": 0.5}, {"f1": (0.0, 0.5)}),
    )
    return tmp_path / "model.pt"


def refusal(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    assert "weights_only" not in line
    return line.removeprefix(f"{path}: ")


def training(content: Content) -> Content:
    found: Content = content["settings"]["training"]
    return found


ODD: dict[str, Callable[[Content], Any]] = {
    "labels": lambda c: c.pop("labels"),
    "labels: ": lambda c: c.update(labels=["a", "\x1b[2J"]),
    "labels: expected different": lambda c: c.update(labels=["a", "a"]),
    "labels.1": lambda c: c.update(labels=["a", 1]),
    "revision": lambda c: c.update(revision="2"),
    "written by a newer version": lambda c: c.update(revision=99),
    "not a Canopy model file": lambda c: c.update(format="other"),
    "image_px": lambda c: c.update(image_px=10**9),
    "pixel_mean": lambda c: c.update(pixel_mean=[0.5, 0.5, 0.5]),
    "metrics": lambda c: c.update(metrics=3),
    "conversion.bands": lambda c: c.update(conversion={"bands": [0]}),
    "conversion.range": lambda c: c.update(conversion={"range": [5.0, 5.0]}),
    "conversion.background": lambda c: c.update(conversion={"background": "none of these"}),
    "settings.training": lambda c: c["settings"].update(training=None),
    "settings.training.backbone": lambda c: training(c).pop("backbone"),
    "settings.training: unknown backbone": lambda c: training(c).update(backbone="resnet9"),
    "settings.training.weights": lambda c: training(c).update(weights="mine"),
    "thresholds.f1.0": lambda c: c.update(thresholds={"f1": [float("nan"), 0.0]}),
    "thresholds: expected one": lambda c: c.update(thresholds={"f1": [0.0]}),
    "weights: ": lambda c: c.update(weights=[]),
    "weights.head.weight: expected float32": lambda c: c["weights"].pop("head.weight"),
    "'weights.\\x1b": lambda c: c["weights"].update({"\x1b": torch.zeros(1)}),
    "weights.head.bias: expected float32 strided (2,), found float64": lambda c: c[
        "weights"
    ].update({"head.bias": torch.zeros(2).double()}),
    "weights.zz: expected no tensor": lambda c: c["weights"].update(
        zz=torch.zeros(1).expand(10**12)
    ),
    "weights: cannot be copied": lambda c: c["weights"].update(
        {"head.bias": torch.zeros(2, device="meta")}
    ),
}


@pytest.mark.parametrize("key", ODD)
def test_a_missing_or_odd_key_is_named(model: Path, key: str) -> None:
    content = torch.load(model, weights_only=True)
    ODD[key](content)
    torch.save(content, model)
    assert refusal(model).startswith(key)


def test_a_file_before_conversions_were_kept_is_read(model: Path) -> None:
    content = torch.load(model, weights_only=True)
    content.pop("conversion")
    torch.save(content | {"revision": 2}, model)
    assert load_model(model).conversion == AS_STORED


def test_a_network_that_the_weights_do_not_have_takes_no_memory(model: Path) -> None:
    content = torch.load(model, weights_only=True)
    training(content).update(backbone="vit_h_14")
    content["image_px"] = 2044
    torch.save(content, model)
    assert "weights.class_token: expected float32" in refusal(model)


def test_code_in_a_model_file_is_never_run(model: Path, tmp_path: Path) -> None:
    content = torch.load(model, weights_only=True)
    torch.save({**content, "labels": Code(tmp_path / "ran")}, model)
    assert refusal(model).startswith("damaged, or contains more than tensors")
    assert not (tmp_path / "ran").exists()


def test_a_compressed_file_is_not_unpacked(model: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10**6)
    model.write_bytes(packed.getvalue())
    assert refusal(model).startswith("compressed")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "found a folder" in refusal(tmp_path)
    assert "no such file" in refusal(tmp_path / "none.pt")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        assert "found a device, a pipe" in refusal(path)
