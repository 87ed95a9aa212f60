import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from syrupy.assertion import SnapshotAssertion

from benchmarks import gpu, timed_run
from benchmarks.gpu import Round, pays_after_text, row, together
from benchmarks.noise_images import Case
from benchmarks.timed_run import Extent, RunTimes, Switch
from canopy_search.training.optimization import optimizers

# How the script is tried where there is no GPU.
SMALL = (
    *("--device", "cpu", "--backbone", "tinycnn_8", "--image-px", "32", "--batch-size", "8"),
    *("--steps", "2", "--rounds", "1", "--epochs", "1", "--switch"),
)
ALONE = ("augmented, in the device's memory", "optimizer not fused")
FUSED = optimizers._FUSED_DEVICE_TYPES


def run_script(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Runs it in this process, which a start of Python with torch would slow down."""
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", *arguments])
    gpu.main()


def assert_rows(written: str, switches: tuple[str, ...]) -> None:
    rows = [line.split(" | ") for line in written.splitlines() if line.startswith("| ")]
    assert [cells[0] for cells in rows] == ["| switch", "| default", *(f"| {s}" for s in switches)]
    assert {len(cells) for cells in rows} == {7}
    assert rows[1][2].startswith("1.00 (")
    assert all(int(cells[1].split()[0].replace(",", "")) > 0 for cells in rows[1:])


def test_the_script_measures_what_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fused: list[bool] = []

    def in_this_process(job: list[Any], switch: Switch, _limit_s: None) -> list[str]:
        monkeypatch.setattr(optimizers, "_FUSED_DEVICE_TYPES", FUSED)
        found = timed_run._train(json.loads(json.dumps([*job, 0])))
        fused.append(bool(optimizers._FUSED_DEVICE_TYPES))
        return [json.dumps(asdict(found))] * switch.processes

    monkeypatch.setattr(timed_run, "_run", in_this_process)
    run_script(monkeypatch, *SMALL, *ALONE)
    assert_rows(capsys.readouterr().out, ALONE)
    assert fused == [True, True, False]


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_the_script_measures_in_processes_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    switches = (*ALONE, "two processes")
    run_script(monkeypatch, *SMALL, *switches)
    assert_rows(capsys.readouterr().out, switches)


def test_without_a_gpu_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as error:
        run_script(monkeypatch)
    assert str(error.value).replace(torch.__version__, "VERSION") == words


def test_a_network_that_cannot_be_trained_ends_it_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho so far; echo Traceback >&2; echo too small >&2; exit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(SystemExit) as error:
        run_script(monkeypatch, *SMALL, "fp32")
    assert str(error.value).endswith("tinycnn_8 32 px, batch 8: default: too small")


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
    gpu.measure(case, switches, Extent(2, 3, tmp_path))
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
