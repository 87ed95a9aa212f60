from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.device import precision
from canopy_search.training.device.gpu import Gpu
from canopy_search.training.device.precision import (
    autocast,
    resolve_device,
    resolve_precision,
    resolve_threads,
)
from canopy_search.training.errors import SettingsError

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """Makes torch report a number of CUDA GPUs of a compute capability."""

    def pretend(count: int, capability: tuple[int, int] = (9, 0), *others: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        found = [Gpu(f"GPU {index}", each) for index, each in enumerate((capability, *others))]
        monkeypatch.setattr(precision, "visible_gpus", lambda: found)

    return pretend


@pytest.mark.parametrize(
    ("setting", "count", "expected"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cpu", 2, "cpu"),
        ("cuda", 2, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_resolves_the_device(gpus: Any, setting: str, count: int, expected: str):
    gpus(count)
    assert str(resolve_device(setting)) == expected


def test_a_gpu_that_is_not_there_raises(gpus: Any, words: SnapshotAssertion):
    for count, setting in ((0, "cuda"), (2, "cuda:2")):
        gpus(count)
        with pytest.raises(SettingsError) as caught:
            resolve_device(setting)
        assert str(caught.value).replace(torch.__version__, "VERSION") == words


def test_apples_gpu_is_taken_by_name_where_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("mps").type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="no Apple GPU"):
        resolve_device("mps")


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16"), ((12, 0), "bf16")],
)
def test_auto_on_a_gpu_follows_its_generation(
    gpus: Any, capability: tuple[int, int], expected: str
):
    gpus(1, capability)
    assert resolve_precision("auto", GPU) == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({"neon": True, "bf16": True}, "fp32"),
    ],
)
def test_auto_on_a_cpu_follows_its_instructions(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(capabilities))
    assert resolve_precision("auto", CPU) == expected


def test_auto_reads_this_processors_real_capabilities():
    assert "architecture" in torch.cpu.get_capabilities()
    assert resolve_precision("auto", CPU) in {"fp32", "bf16"}


def test_auto_on_apples_gpu_is_fp32():
    assert resolve_precision("auto", torch.device("mps")) == "fp32"


def test_auto_fits_every_gpu_that_workers_may_have(gpus: Any):
    gpus(2, (9, 0), (7, 5))
    assert resolve_precision("auto", GPU) == "fp16"


def test_a_gpu_that_does_not_compute_in_bf16_is_refused(gpus: Any, words: SnapshotAssertion):
    gpus(2, (9, 0), (7, 5))
    assert resolve_precision("bf16", GPU) == "bf16"
    with pytest.raises(SettingsError) as caught:
        resolve_precision("bf16", torch.device("cuda", 1))
    assert str(caught.value) == words


@pytest.mark.parametrize("setting", ["fp32", "bf16"])
def test_a_format_asked_for_by_name_is_kept(gpus: Any, setting: Any):
    gpus(1)
    assert resolve_precision(setting, CPU) == setting
    assert resolve_precision(setting, GPU) == setting


def test_fp16_is_for_gpus(words: SnapshotAssertion):
    assert resolve_precision("fp16", GPU) == "fp16"
    with pytest.raises(SettingsError) as caught:
        resolve_precision("fp16", CPU)
    assert str(caught.value) == words


@pytest.mark.parametrize(("setting", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_format(setting: Any, dtype: torch.dtype):
    layer = torch.nn.Linear(2, 2)
    with autocast(setting, CPU):
        assert layer(torch.ones(1, 2)).dtype == dtype
    assert layer(torch.ones(1, 2)).dtype == torch.float32


def test_fp32_leaves_an_outer_autocast():
    layer = torch.nn.Linear(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16), autocast("fp32", CPU):
        assert layer(torch.ones(1, 2)).dtype == torch.float32


def machine(folder: Path, siblings: list[str]) -> Path:
    """Writes the part of Linux's CPU folder that says which CPUs share a core."""
    for cpu, text in enumerate(siblings):
        topology = folder / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"),
    [
        ({0, 1, 2, 3}, None, 2),
        ({0, 2}, None, 1),
        ({0, 1}, None, 2),
        ({0, 1, 2, 3, 9}, None, 3),
        ({0, 1, 2, 3}, "max 100000", 2),
        ({0, 1, 2, 3}, "150000 100000", 1),
        ({0, 1, 2, 3}, "20000 100000", 1),
        ({0, 1, 2, 3}, "800000 100000", 2),
    ],
)
def test_auto_threads_are_the_physical_cores_of_this_process(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    affinity: set[int],
    quota: str | None,
    expected: int,
):
    cpu_max = tmp_path / "cpu.max"
    if quota is not None:
        cpu_max.write_text(f"{quota}\n")
    # CPUs 0 and 2 share a core, 1 and 3 another; nothing is known of CPU 9.
    folder = machine(tmp_path / "cpu", ["0,2", "1,3", "0,2", "1,3"])
    monkeypatch.setattr(precision, "_CPU_TOPOLOGY", folder)
    monkeypatch.setattr(precision, "_CGROUP_CPU_MAX", cpu_max)
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: affinity, raising=False)
    assert resolve_threads("auto") == expected


def test_auto_threads_where_the_system_tells_no_affinity(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 8 if logical else 4)
    monkeypatch.setattr(precision, "_CGROUP_CPU_MAX", Path("/nonexistent"))
    assert resolve_threads("auto") == 4


def test_a_number_of_threads_is_kept():
    assert resolve_threads(7) == 7
