from pathlib import Path

import pytest
import torch

from canopy_search.search.workers import device_slots as slots
from canopy_search.search.workers.device_slots import GPU_VARIABLE, DeviceSlot, device_slots

LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)
  MIG 3g.20gb     Device  0: (UUID: MIG-aaaa-1)
  MIG 3g.20gb     Device  1: (UUID: MIG-aaaa-2)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb)
"""


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv(GPU_VARIABLE, raising=False)


@pytest.mark.parametrize(("cores", "number"), [(1, 1), (2, 2), (64, 2)])
def test_a_cpu_has_two_as_far_as_there_are_cores_unless_somebody_says_how_many(
    monkeypatch: pytest.MonkeyPatch, cores: int, number: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(slots, "usable_cores", lambda: cores)
    assert device_slots("auto", "auto") == number * [DeviceSlot("cpu")]
    assert device_slots("cpu", 3) == 3 * [DeviceSlot("cpu")]


@pytest.mark.usefixtures("gpus")
def test_every_gpu_has_a_worker_that_sees_it_alone() -> None:
    assert device_slots("auto", "auto") == [
        DeviceSlot("cuda:0", {GPU_VARIABLE: "0"}),
        DeviceSlot("cuda:1", {GPU_VARIABLE: "1"}),
    ]
    four = device_slots("cuda", "auto", slots_per_gpu=2)
    assert [slot.name for slot in four] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert [slot.name for slot in device_slots("cuda", 3)] == ["cuda:0", "cuda:1", "cuda:0"]


@pytest.mark.usefixtures("gpus")
def test_what_the_user_shows_us_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPU_VARIABLE, "GPU-8f2a, 5")
    assert [slot.environment for slot in device_slots("auto", "auto")] == [
        {GPU_VARIABLE: "GPU-8f2a"},
        {GPU_VARIABLE: "5"},
    ]


@pytest.mark.usefixtures("gpus")
def test_a_gpu_that_is_named_is_the_only_one() -> None:
    assert device_slots("cuda:1", "auto") == [DeviceSlot("cuda:1")]
    assert device_slots("cuda:1", "auto", slots_per_gpu=2) == 2 * [DeviceSlot("cuda:1")]


def test_each_instance_of_a_partitioned_gpu_has_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    # A process sees one instance, whatever the variable names.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv(GPU_VARIABLE, "MIG-aaaa-1,MIG-aaaa-2")
    assert device_slots("auto", "auto") == [
        DeviceSlot("cuda:0", {GPU_VARIABLE: "MIG-aaaa-1"}),
        DeviceSlot("cuda:1", {GPU_VARIABLE: "MIG-aaaa-2"}),
    ]


@pytest.mark.parametrize(
    ("listed", "count", "named"),
    [
        (LISTED, 1, ["MIG-aaaa-1", "MIG-aaaa-2", "GPU-bbbb"]),
        (LISTED.splitlines()[0], 1, ["0"]),
        ("", 2, ["0", "1"]),
    ],
)
def test_instances_that_nobody_names_are_those_of_the_driver(
    listed: str, count: int, named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{listed}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv(GPU_VARIABLE, raising=False)
    slots = device_slots("auto", "auto")
    assert [slot.environment[GPU_VARIABLE] for slot in slots] == named
