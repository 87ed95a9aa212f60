import ast
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from syrupy.assertion import SnapshotAssertion

from benchmarks.gpu import Round
from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check import switches as switch_checks
from benchmarks.gpu_check.__main__ import NOT_HERE, PACKAGES, problem, run_part
from benchmarks.gpu_check.parts import PARTS
from benchmarks.gpu_check.switches import ratio_text, switches
from benchmarks.gpu_check.table import Result, row, timed
from benchmarks.noise_images import Case
from benchmarks.timed_run import Extent, RunTimes, Switch


def test_without_a_gpu_it_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: SnapshotAssertion
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu_check"])
    with pytest.raises(SystemExit) as caught:
        gpu_check.main()
    assert caught.value.code == NOT_HERE
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.replace(torch.__version__, "VERSION") == words


def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    missing = {"PIL", "iterstrat"}
    found = gpu_check.find_spec
    with monkeypatch.context() as context:
        context.setattr(
            gpu_check, "find_spec", lambda name: None if name in missing else found(name)
        )
        assert problem("cpu") == words
    assert problem("cpu") is None
    monkeypatch.setattr(torch, "__version__", "2.10.0+cu128")
    assert problem("cpu") == words


def test_the_packages_are_those_that_training_imports() -> None:
    imported = set()
    for room in ("training", "filestore"):
        for file in Path(gpu_check.__file__).parents[2].joinpath(room).rglob("*.py"):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                if isinstance(node, ast.ImportFrom):
                    imported.add(str(node.module).partition(".")[0])
    others = {"canopy_search", "pydantic_core"}  # the second comes with pydantic
    assert imported - sys.stdlib_module_names - others <= PACKAGES.keys()


def test_a_check_is_its_last_line_and_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    def run(code: str, limit_s: float = 600) -> tuple[str, str]:
        return run_part([sys.executable, "-c", code], limit_s)

    assert run("print('first'); print('== last ==')") == ("ok", "last")
    assert run("raise SystemExit('reason')") == ("failed", "reason")
    assert run("raise SystemExit(3)") == ("failed", "exit status 3")
    assert run("import time; time.sleep(600)", 0.5) == ("failed", "not done after 0 s")


def test_no_check_begins_without_time() -> None:
    def check(left_s: float) -> tuple[str, str]:
        assert 0 < left_s <= 1000
        return "ok", "a | b"

    assert timed("name", check, time.monotonic() + 10).outcome == "skipped"
    done = timed("name", check, time.monotonic() + 1000)
    assert done.outcome == "ok"
    assert row(Result("name", "ok", done.found, 1.4)) == "| name | ok | a / b | 1 |"


def test_switches_are_ratios_and_one_that_fails_does_not_end_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def time_run(case: Case, switch: Switch, extent: Extent) -> list[RunTimes]:
        assert (extent.rounds, extent.device) == (1, "cpu")
        assert extent.limit_s is not None
        if switch.name == "bf16":
            raise RuntimeError("bf16: not here")
        return [RunTimes([2.0], [0.5], [], [], 4.0, 100, 10.0, 0)]

    monkeypatch.setattr(switch_checks, "time_run", time_run)
    results = {result.name: result for result in switches("cpu", time.monotonic() + 1000)}
    assert [*results][:2] == ["default", "default again"]
    assert [*results][-1] == "compiled"
    assert {name for name, result in results.items() if result.outcome != "ok"} == {"bf16"}
    assert results["bf16"].found == "bf16: not here"

    def fail(*arguments: Any) -> list[RunTimes]:
        raise RuntimeError("default: too small")

    monkeypatch.setattr(switch_checks, "time_run", fail)
    (only,) = switches("cpu", time.monotonic() + 1000)
    assert only.outcome == "failed"


def test_a_ratio_above_one_is_better_than_the_default_except_of_memory(
    words: SnapshotAssertion,
) -> None:
    default = Round(images_per_s=100, val_s=1, peak_memory_mib=10, epoch_s=2, before_s=3)
    found = Round(images_per_s=150, val_s=0.5, peak_memory_mib=20, epoch_s=1, before_s=13)
    assert ratio_text(found, default) == words


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(name, marks=[] if name == "out of memory" else [pytest.mark.exhaustive])
        for name in PARTS
    ],
)
def test_what_a_gpu_must_show_holds_on_a_cpu(part: str) -> None:
    assert PARTS[part]("cpu")
    torch.use_deterministic_algorithms(False)
