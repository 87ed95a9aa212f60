"""A job leaves in time at every signal, and reports how its worker ended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from canopy_search.search.workers.command import WorkerCommand
from canopy_search.search.workers.slurm.job import for_task, margin_s
from tests.waiting import HANG_S, wait_until

_SCRIPT = """
import json, sys
from importlib.metadata import version
from canopy_search.search.workers import command
from canopy_search.search.workers.slurm import job
# Stands in for `canopy worker`: it is called with this script's own arguments.
command._WORKER = ("-c", sys.argv[2])
placed = {"worker_id": 7, "n_trials": 1, "workers": 1, "threads": 1}
end = job.run_job(command.WorkerCommand(version("canopy-search"), (), "", placed, {}, "home"))
print(json.dumps(end))
"""
SLEEPS = """
import signal, sys, time
def leave(number, frame):
    print("leaves", file=sys.stderr)
    sys.exit(130)
signal.signal(signal.SIGTERM, leave)
open(sys.argv[-1] + ".ready", "w")
time.sleep(600)
"""


def start(worker: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, "job", worker],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(process: "subprocess.Popen[str]") -> tuple[list[Any], str]:
    stdout, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, stderr
    return json.loads(stdout.splitlines()[-1]), stderr


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGTERM, "it was asked to leave"),
        (signal.SIGINT, "it was asked to leave"),
        (signal.SIGUSR2, "its time is up"),
    ],
    ids=lambda each: str(getattr(each, "name", "")),
)
def test_whatever_slurm_and_submitit_send_a_job_leaves(
    tmp_path: Path, number: signal.Signals, reason: str
) -> None:
    ready = tmp_path / "ready"
    process = start(SLEEPS.replace('sys.argv[-1] + ".ready"', repr(str(ready))))
    wait_until(ready.exists, "it works")
    process.send_signal(signal.SIGCONT)  # comes with every SIGTERM
    process.send_signal(number)
    end, stderr = end_of(process)
    assert end == [130, reason]
    assert "leaves" in stderr  # what the worker says is in the job's output


def test_a_worker_that_ends_says_of_what() -> None:
    end, _ = end_of(start("import sys; print('no data\\nat all', file=sys.stderr); sys.exit(69)"))
    assert end == [69, "no data\nat all"]
    end, _ = end_of(start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert end == [-9, ""]


def test_a_worker_whose_job_is_killed_notices_it(tmp_path: Path) -> None:
    ready, left = tmp_path / "ready", tmp_path / "left"
    waits = f"import sys; open({str(ready)!r}, 'w'); sys.stdin.read(); open({str(left)!r}, 'w')"
    process = start(waits)
    wait_until(ready.exists, "it works")
    process.kill()
    process.communicate()
    wait_until(left.exists, "it notices")


def test_a_job_begins_to_leave_some_time_before_its_limit() -> None:
    assert [margin_s(limit_s) for limit_s in (60, 600, 86_400)] == [10, 30, 60]


def test_each_task_has_an_id_and_the_cores_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SUBMITIT_"))]:
        monkeypatch.delenv(name)

    def placed(**values: int | None) -> dict[str, int | None]:
        fields = {"worker_id": 7, "n_trials": 1, "workers": 1, "threads": None} | values
        return dict(for_task(WorkerCommand("1", (), "", fields, {}, "home")).placed)

    assert placed() == {"worker_id": 7, "n_trials": 1, "workers": 1, "threads": None}
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "3")
    assert placed()["threads"] == 3
    assert placed(threads=2)["threads"] == 2
    assert placed(workers=2)["threads"] is None
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert placed()["worker_id"] == 8
