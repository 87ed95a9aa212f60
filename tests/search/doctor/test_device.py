"""What the doctor says of GPUs and memory; the GPUs are made up, for few machines have one."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.doctor import device
from canopy_search.search.doctor.device import Card, check_device, check_memory, find_cards
from canopy_search.search.doctor.finding import Finding
from canopy_search.search.study.configuration import load_config
from canopy_search.training.data.dataset import DataFacts
from canopy_search.training.device import memory
from canopy_search.training.device.memory import step_memory
from canopy_search.training.errors import SettingsError
from canopy_search.training.settings import TrainingSettings

A10 = Card("NVIDIA A10", "470.57")


def look(monkeypatch: pytest.MonkeyPatch, *cards: Card, gpus: int = 0) -> Finding:
    monkeypatch.setattr(device, "find_cards", lambda: list(cards))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    (finding,) = check_device(TrainingSettings(precision="fp32", threads=1))
    return finding


@pytest.fixture(autouse=True)
def all_gpus_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_no_gpu_is_said_plainly(monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion) -> None:
    finding = look(monkeypatch)
    assert finding.status == "ok"
    assert finding.found == words


@pytest.mark.parametrize(
    ("card", "cuda"),
    [(Card("an NVIDIA GPU", None), "13.0"), (A10, None), (A10, "13.0")],
    ids=["no driver", "no CUDA", "old driver"],
)
def test_a_gpu_that_torch_cannot_use(
    monkeypatch: pytest.MonkeyPatch, card: Card, cuda: str | None, words: SnapshotAssertion
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch, "__version__", "VERSION")
    finding = look(monkeypatch, card)
    assert finding.status == "warning"
    assert finding.found.startswith(card.name)
    assert [finding.found, finding.remedy] == words


def test_a_hidden_gpu_is_meant_to_be_hidden(
    monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert look(monkeypatch, A10).status == "ok"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    finding = look(monkeypatch, A10)
    assert finding.status == "warning"
    assert [finding.found, finding.remedy] == words


def test_a_gpu_that_computes(monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion) -> None:
    properties = SimpleNamespace(name="NVIDIA A10", total_memory=24 * 2**30)
    ones = torch.ones
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)
    monkeypatch.setattr(device, "available_bytes", lambda _device: 20 * 2**30)
    monkeypatch.setattr(torch, "ones", lambda *size, **_options: ones(*size))
    finding = look(monkeypatch, A10, A10, gpus=2)
    assert finding.status == "ok"
    assert finding.found == words
    for number in ("24.0 GiB", "20.0 GiB", "470.57", "1 more", "cuda:0"):
        assert number in finding.found


def test_a_gpu_that_does_not_compute(
    monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    def fail(_device: torch.device) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nCompile with ...")

    monkeypatch.setattr(torch.cuda, "get_device_properties", fail)
    monkeypatch.setattr(torch, "__version__", "VERSION")
    finding = look(monkeypatch, A10, gpus=1)
    assert finding.status == "error"
    assert [finding.found, finding.remedy] == words


def test_a_gpu_that_is_asked_for_and_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SettingsError, match="no CUDA GPU"):
        list(check_device(TrainingSettings(device="cuda")))


def test_cards_are_those_that_the_driver_lists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA A10, 470.57'\necho 'NVIDIA T4, 470.57'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_cards() == [A10, Card("NVIDIA T4", "470.57")]


def test_without_a_driver_cards_are_those_on_the_bus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'No devices were found'\nexit 6\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    bus = {"gpu": ("0x10de", "0x030200"), "sound": ("0x10de", "0x040300"), "no": ("0x1234", "0x03")}
    for name, (vendor, kind) in bus.items():
        folder = tmp_path / "devices" / name
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "class").write_text(f"{kind}\n")
    monkeypatch.setattr(device, "_PCI", tmp_path / "devices")
    assert find_cards() == [Card("an NVIDIA GPU", None)]


class TestMemory:
    """The largest step that a search may try, against what is free."""

    CONFIG = (
        "data: {labels: a.csv, images: b, image_px: 128}\n"
        "training: {device: cpu, precision: fp32}\n"
        "search: {space: {backbone: [tinycnn_8, resnet18], batch_size: [16, 64]}}\n"
    )
    NEEDED_BYTES = step_memory(
        TrainingSettings(backbone="resnet18", precision="fp32", device="cpu", batch_size=64),
        labels=4,
        image_px=128,
    ).needed_bytes

    def look(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_bytes: float) -> Finding:
        file = tmp_path / "canopy.yaml"
        file.write_text(self.CONFIG)
        monkeypatch.setattr(memory, "available_bytes", lambda _device: int(free_bytes))
        images = DataFacts(images=1000, train=700, labels=4, image_px=128)
        (finding,) = check_memory(load_config(file).settings, images)
        return finding

    def test_it_fits(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: SnapshotAssertion
    ) -> None:
        finding = self.look(monkeypatch, tmp_path, 8 * 2**30)
        assert finding.status == "ok"
        needed, free = re.findall(r"[\d.]+ [MG]iB", finding.found)
        assert free == "8.0 GiB"
        assert finding.found.replace(needed, "NEEDED") == words
        for named in ("resnet18", "64 images", "128 px"):
            assert named in finding.found

    def test_it_is_tight(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        finding = self.look(monkeypatch, tmp_path, 1.2 * self.NEEDED_BYTES)
        assert finding.status == "warning"
        assert "batch_size" in (finding.remedy or "")

    def test_it_does_not_fit(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"'resnet18'.*; [0-9]+ would fit"):
            self.look(monkeypatch, tmp_path, 0.9 * self.NEEDED_BYTES)
