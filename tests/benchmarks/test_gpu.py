import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu import Round, pays_after_text, row, together
from benchmarks.noise_images import Case
from benchmarks.timed_run import RunTimes, Switch

SWITCHES = ("augmented, in the device's memory", "optimizer not fused", "two processes")


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=250,
    )


def test_the_script_measures_what_it_is_asked_to() -> None:
    done = run_script(
        *("--device", "cpu", "--backbone", "tinycnn_8", "--image-px", "32", "--batch-size", "8"),
        *("--steps", "2", "--rounds", "1", "--epochs", "1"),
        *("--switch", *SWITCHES),
    )
    assert done.stderr == ""
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [cells[0] for cells in rows] == ["| switch", "| default", *(f"| {s}" for s in SWITCHES)]
    assert {len(cells) for cells in rows} == {7}
    assert rows[1][2].startswith("1.00 (")
    assert all(int(cells[1].split()[0]) > 0 for cells in rows[1:])


def test_without_a_gpu_it_says_what_to_do() -> None:
    done = run_script()
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "finds no CUDA GPU; check the driver with nvidia-smi" in done.stderr


def test_a_network_that_cannot_be_trained_ends_it_with_the_reason() -> None:
    done = run_script(
        *("--device", "cpu", "--backbone", "vgg11", "--image-px", "8", "--batch-size", "2"),
        *("--steps", "1", "--rounds", "1", "--epochs", "1", "--switch", "fp32"),
    )
    assert done.returncode == 1
    assert "benchmarks.gpu: vgg11 8 px, batch 2: default: " in done.stderr


def test_a_switch_that_fails_has_a_row_that_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    calls: list[str] = []

    def time_run(case: Case, switch: Switch, *arguments: object) -> list[RunTimes]:
        calls.append(switch.name)
        if switch.name == "compiled":
            raise RuntimeError("compiled: no compiler")
        return [times(2.0, 4.0)]

    monkeypatch.setattr(gpu, "time_run", time_run)
    switches = [Switch("compiled"), Switch("fp32")]
    case = Case("tinycnn_8", 32, 8, 2)
    gpu.measure(case, switches, rounds=2, epochs=3, folder=tmp_path, device="cpu")
    assert calls == ["default", "compiled", "fp32", "default", "fp32"]
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("| default | 50 (50 to 50) | 1.00 ")
    assert second == "| compiled | compiled: no compiler | | | | | |"
    assert third.startswith("| fp32 | 50 ")


def times(train_s: float, first_s: float) -> RunTimes:
    return RunTimes([train_s] * 3, [0.5] * 3, [], [], first_s, 100, 10.0, 0)


def test_processes_count_together() -> None:
    both = together([times(2.0, 4.0), times(4.0, 5.0)])
    assert both == Round(images_per_s=75, val_s=0.5, peak_memory_mib=20, epoch_s=4.5, before_s=0.5)


def test_compiling_pays_when_its_epochs_have_gained_what_it_took() -> None:
    default, compiled = together([times(2.0, 4.0)]), together([times(1.5, 13.0)])
    cells = row("compiled", [compiled], [default]).split(" | ")
    assert cells[2].startswith("1.33 ")
    assert cells[5:] == ["+9.5", "19 |"]


@pytest.mark.parametrize(
    ("cost_s", "gained_s", "text"),
    [(10, 3, "4"), (10, 0, "never"), (10, -1, "never"), (-1, 1, "0"), (9e3, 1, "9,000")],
)
def test_pays_after(cost_s: float, gained_s: float, text: str) -> None:
    assert pays_after_text(cost_s, gained_s) == text
