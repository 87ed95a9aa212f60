import dataclasses
import re
from pathlib import Path

import psutil
import pytest
import torch
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.device import memory
from canopy_search.training.device.memory import (
    StepMemory,
    available_bytes,
    step_memory,
)
from canopy_search.training.errors import SettingsError
from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.settings import OptimizerSettings, TrainingSettings


def settings(**values: object) -> TrainingSettings:
    defaults = {"backbone": "tinycnn_8", "precision": "fp32", "device": "cpu", "threads": 1}
    return TrainingSettings.model_validate(defaults | values)


def estimate(image_px: int = 32, **values: object) -> StepMemory:
    return step_memory(settings(**values), labels=5, image_px=image_px)


def test_weights_gradients_and_the_optimizer_s_state_are_counted() -> None:
    weights = sum(
        4 * parameter.numel()
        for parameter in memory.meta_backbone("resnet18", labels=5, image_px=32).parameters()
    )

    assert estimate(backbone="resnet18").fixed_bytes == 4 * weights
    for momentum, copies in ((0.9, 3), (0.0, 2)):
        optimizer = OptimizerSettings(name="sgd", momentum=momentum).model_dump()
        assert estimate(backbone="resnet18", optimizer=optimizer).fixed_bytes == copies * weights


def test_what_is_kept_for_one_convolution_and_one_relu_is_known_to_the_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kept are the pixels for the convolution's weights, and the ReLU's result, once."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 7, 1, device="meta"), torch.nn.ReLU(), torch.nn.Flatten()
    )
    monkeypatch.setattr(memory, "meta_backbone", lambda *_args, **_options: network)

    pixels, activation = 4 * 3 * 10 * 10, 4 * 7 * 10 * 10
    assert estimate(10).image_bytes == pixels + activation


@pytest.mark.parametrize(
    "backbone", ["tinycnn_8", "resnet18", "squeezenet1_1", "vit_b_32", "timm/test_vit"]
)
def test_what_is_kept_for_an_image_is_what_a_real_forward_pass_keeps(backbone: str) -> None:
    network = build_backbone(backbone, labels=5, image_px=64, weights="none", seed=0)
    two, four = (kept_bytes(network, torch.zeros(batch, 3, 64, 64)) for batch in (2, 4))
    # Attention keeps a little besides, a number for each token.
    assert estimate(64, backbone=backbone).image_bytes == pytest.approx((four - two) / 2, rel=2e-3)


def kept_bytes(network: torch.nn.Module, pixels: torch.Tensor) -> int:
    """Bytes of the storages that autograd keeps, found by their addresses."""
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(pixels)
    return sum(storage.nbytes() for address, storage in kept.items() if address not in weights)


def test_memory_grows_with_the_image_and_half_precision_takes_less() -> None:
    small, large = estimate(32), estimate(64)
    assert large.image_bytes == pytest.approx(4 * small.image_bytes, rel=0.05)
    assert estimate(32, precision="bf16").image_bytes < small.image_bytes


def test_totals_and_the_suggested_batch_fit_together() -> None:
    step = StepMemory(settings(batch_size=32), 32, 1000, 10, available_bytes=1320)
    assert step.needed_bytes == 1320
    step.check()
    assert step.is_tight
    assert not dataclasses.replace(step, available_bytes=2000).is_tight
    for available, batch in ((5000, 200), (5015, 200), (5017, 201), (1600, 0)):
        assert dataclasses.replace(step, available_bytes=available).suggested_batch == batch


@pytest.mark.parametrize("backbone", ["regnet_y_400mf", "vit_b_16", "squeezenet1_1"])
def test_every_kind_of_network_can_be_estimated(backbone: str) -> None:
    assert estimate(64, backbone=backbone).image_bytes > 0


def test_a_batch_that_cannot_fit_is_refused_with_one_that_would(
    monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    available = 8 * 2**30
    monkeypatch.setattr(memory, "available_bytes", lambda _device: available)
    with pytest.raises(SettingsError) as caught:
        estimate(batch_size=10**9).check()
    message = str(caught.value)
    for part in ("training.batch_size: ", "1000000000", "32 px", "'tinycnn_8'"):
        assert part in message
    would_fit = int(message.rpartition("; ")[2].partition(" ")[0])
    assert sizeless(message).replace(str(would_fit), "N") == words
    # With room for what the estimate leaves out, and no smaller than that asks for.
    assert 0.55 < estimate(batch_size=would_fit).needed_bytes / available < 0.65


def test_a_backbone_too_large_for_any_batch_is_refused(
    monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda _device: 1000)
    with pytest.raises(SettingsError) as caught:
        estimate().check()
    assert sizeless(str(caught.value)) == words


def sizeless(message: str) -> str:
    return re.sub(r"[\d,.]+ [MG]iB", "SIZE", message)


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    free = psutil.virtual_memory()  # which changes as others work
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    cpu = torch.device("cpu")
    assert available_bytes(cpu) == free.available  # no cgroup at all

    (tmp_path / "memory.current").write_text("5000\n")
    (tmp_path / "memory.stat").write_text("anon 3000\ninactive_file 1500\nactive_file 1\n")
    (tmp_path / "memory.max").write_text("8000\n")
    assert available_bytes(cpu) == 4500
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(cpu) == free.available


def test_the_tightest_of_nested_limits_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_OWN_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text("1:cpu:/other\n0::/slurm/job_7\n")
    for folder, limit in (("slurm", "9000"), ("slurm/job_7", "max"), ("slurm/job_8", "10")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "memory.max").write_text(f"{limit}\n")
        (tmp_path / folder / "memory.current").write_text("1000\n")
        (tmp_path / folder / "memory.stat").write_text("inactive_file 500\n")

    assert available_bytes(torch.device("cpu")) == 8500
