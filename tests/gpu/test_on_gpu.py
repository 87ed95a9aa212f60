"""What only a GPU can show; `python -m benchmarks.gpu_check` runs it without the conftest.

``CANOPY_TEST_DEVICE=cpu`` tries the tests themselves where there is no GPU.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from canopy_search.training.data.cache.device_images import DeviceImages
from canopy_search.training.data.loading import BatchLoader
from canopy_search.training.data.uploading import uploaded
from canopy_search.training.device.out_of_memory import is_out_of_memory
from canopy_search.training.device.precision import resolve_precision
from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import TrainingSettings
from tests.noise_data import noise_dataset

DEVICE = torch.device(os.environ.get("CANOPY_TEST_DEVICE", "cuda"))
ON_GPU = DEVICE.type == "cuda"
NETWORKS = ("resnet18", "alexnet", "vgg11", "googlenet", "swin_t", "vit_b_32")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(ON_GPU and not torch.cuda.is_available(), reason="no CUDA GPU"),
]


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_batches_gathered_there_are_those_of_the_host() -> None:
    dataset = noise_dataset(train=40, validation=6, test=0)
    rows = dataset.split.train
    there = DeviceImages(dataset.pixels, dataset.targets, rows, DEVICE)
    for epoch in range(3):
        ours, theirs = (
            list(BatchLoader(dataset, rows, 16, DEVICE, images).training_batches(1, epoch))
            for images in (there, None)
        )
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one.pixels, other.pixels)
            assert torch.equal(one.targets, other.targets)
            assert one.pixels.device.type == DEVICE.type


def test_passes_reserve_no_more_memory_each() -> None:
    reserved = []
    for _ in range(6):
        batches = (
            (torch.ones(2**20, pin_memory=ON_GPU), torch.ones(8, pin_memory=ON_GPU))
            for _ in range(4)
        )
        for pixels, _targets in uploaded(batches, DEVICE):
            assert float(pixels.sum()) == 2**20
        reserved.append(torch.cuda.memory_reserved() if ON_GPU else 0)
    assert len(set(reserved[1:])) == 1


@pytest.mark.parametrize("name", NETWORKS if ON_GPU else NETWORKS[:1])
@pytest.mark.usefixtures("deterministic")
def test_gradients_are_the_same_each_time(name: str) -> None:
    network = build_backbone(name, labels=3, image_px=64, weights="none", seed=0).to(DEVICE).eval()
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    found = []
    for _ in range(2):
        network.zero_grad()
        network(images).square().sum().backward()
        found.append([parameter.grad for parameter in network.parameters()])
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_its_shortage_is_recognised() -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(2**50, device=DEVICE)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "changes", [{}, {"ema": 0.9, "freeze_epochs": 1, "layer_decay": 0.5}], ids=["plain", "averaged"]
)
def test_every_precision_of_the_hardware_trains(precision: str, changes: dict[str, Any]) -> None:
    values = {"precision": precision, "device": str(DEVICE), "backbone": "tinycnn_8", **changes}
    settings = TrainingSettings.model_validate({**values, "epochs": 2, "batch_size": 8})
    if precision == "fp16" and not ON_GPU:
        pytest.skip("fp16 is for GPUs")
    if precision == "bf16" and resolve_precision("auto", DEVICE) == "fp16":
        pytest.skip("the GPU does not compute in bf16")
    run = TrainingRun.of(settings, noise_dataset(train=32, validation=16, test=0))
    for _ in range(2):
        assert np.isfinite(run.train_epoch().validation.logits).all()


def test_asking_about_it_takes_none_of_its_memory() -> None:
    code = (
        "import torch\n"
        "from canopy_search.training.resolve import resolve_settings\n"
        "from canopy_search.training.device.memory import available_bytes\n"
        "from canopy_search.training.settings import TrainingSettings\n"
        f"settings = resolve_settings(TrainingSettings(device={str(DEVICE)!r}))\n"
        "assert available_bytes(torch.device(settings.device)) > 0\n"
        "assert not torch.cuda.is_initialized()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
