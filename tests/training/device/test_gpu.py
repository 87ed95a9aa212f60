"""GPUs are asked about without taking their memory; they are made up here."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.device import gpu
from canopy_search.training.device.gpu import Gpu, free_bytes, open_gpu, visible_gpus
from canopy_search.training.device.memory import available_bytes
from canopy_search.training.resolve import resolve_settings
from canopy_search.training.settings import TrainingSettings

SECOND = torch.device("cuda", 1)


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    gpu._answer.cache_clear()
    yield
    gpu._answer.cache_clear()


class Child:
    """Stands in for the process that asks; this process must not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        for name in ("init", "_lazy_init", "mem_get_info", "get_device_properties"):
            monkeypatch.setattr(torch.cuda, name, self.refuse)
        monkeypatch.setattr(subprocess, "run", self.run)

    def refuse(self, *arguments: Any) -> None:
        raise AssertionError("this process would take memory of the GPU")

    def run(self, command: list[str], **options: Any) -> Any:
        self.asked.append(command[-1])
        gpus = [["H200", 9, 0], ["A100", 8, 0]]
        return SimpleNamespace(stdout=json.dumps({"gpus": gpus, "free_bytes": 7}))


def test_a_process_that_computes_nothing_asks_a_child_and_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child = Child(monkeypatch)
    assert visible_gpus() == [Gpu("H200", (9, 0)), Gpu("A100", (8, 0))]
    assert free_bytes(SECOND) == available_bytes(SECOND) == 7
    assert resolve_settings(TrainingSettings()).precision == "bf16"
    assert child.asked == ["0", "1"]


def test_a_process_that_computes_asks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child(monkeypatch)
    properties = SimpleNamespace(name="T4", major=7, minor=5)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _index: properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (10, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 5)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 3)
    assert visible_gpus() == 2 * [Gpu("T4", (7, 5))]
    assert free_bytes(SECOND) == 12
    assert child.asked == []


def test_the_question_is_one_that_python_understands() -> None:
    compile(gpu._QUESTION, "question", "exec")


def test_a_gpu_that_does_not_answer_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    monkeypatch.setattr(torch, "__version__", "VERSION")
    monkeypatch.setattr(gpu, "_QUESTION", "raise RuntimeError('CUDA error: no kernel image')")
    with pytest.raises(gpu.SettingsError) as caught:
        visible_gpus()
    assert str(caught.value) == words

    def fail() -> None:
        raise RuntimeError("Found no NVIDIA driver on your system.")

    monkeypatch.setattr(torch.cuda, "init", fail)
    with pytest.raises(gpu.SettingsError) as caught:
        open_gpu()
    assert str(caught.value) == words


def test_files_of_the_working_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('a file of the user')")
    monkeypatch.chdir(tmp_path)
    found = "str(importlib.util.find_spec('torch').origin)"
    question = f"import importlib.util, json; print(json.dumps({{'from': {found}}}))"
    monkeypatch.setattr(gpu, "_QUESTION", question)
    assert not gpu._answer(0)["from"].startswith(str(tmp_path))
