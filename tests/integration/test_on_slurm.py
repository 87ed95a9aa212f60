"""`canopy search --on slurm-local`: jobs of submitit's local executor, which end early."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.searching import wait_until
from tests.integration.canopy_command import Canopy
from tests.integration.in_process import InProcess
from tests.integration.ray_nodes.sitecustomize import PACE_VARIABLE
from tests.integration.slurm_nodes.sitecustomize import WORK_VARIABLE
from tests.planet_data import write_planet_data

ROOT = Path(__file__).parents[2]
NODES = ROOT / "tests" / "integration" / "slurm_nodes"
CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 16}
training: {epochs: 4, batch_size: 16, backbone: tinycnn_8}
search:
  study: planet
  pruner: {name: none}
  sampler: {name: random}
  space:
    loss: [bce, weighted_bce, focal_bce]
    gamma: {low: 0.80, high: 1.00, step: 0.01}
"""
TRIALS = 18
LEAVE_S = 15.0
CLAIMED = "study planet:"
"""A worker says so when it has its first trial."""


@pytest.fixture
def pace(tmp_path: Path) -> Callable[[float], None]:
    """Sets the seconds of an epoch."""

    def set_pace(epoch_s: float) -> None:
        fresh = tmp_path / "pace.new"
        fresh.write_text(str(epoch_s))
        fresh.replace(tmp_path / "pace")

    return set_pace


@pytest.fixture
def user(tmp_path: Path) -> Iterator[InProcess]:
    folder = tmp_path / "user"
    folder.mkdir()
    write_planet_data(folder, images=40, image_px=16)
    (folder / "canopy.yaml").write_text(CONFIG)
    user = InProcess(folder)
    yield user
    for process in job_processes(user):
        process.kill()
    user.run("db", "stop", status=None)


def start(user: Canopy, workers: int, **variables: str) -> subprocess.Popen[str]:
    variables |= {
        "PYTHONPATH": f"{NODES}:{ROOT}",
        PACE_VARIABLE: str(user.folder.parent / "pace"),
    }
    jobs = ("--on", "slurm-local", "--workers", str(workers), "--hours", "1")
    canopy = Canopy(user.folder, variables=variables)
    return canopy.start("search", "--trials", str(TRIALS), *jobs)


def job_processes(user: Canopy) -> list[psutil.Process]:
    """Returns the processes that watch a job of this user's, or are one."""
    folder, found = str(user.folder / ".canopy" / "jobs"), []
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in process.info["cmdline"] or ()):
            found.append(process)
    return found


def jobs(user: Canopy) -> list[Path]:
    return sorted((user.folder / ".canopy" / "jobs" / "planet").glob("*/*/job-id"))


def log(user: Canopy, number: int) -> str:
    path = user.folder / ".canopy" / "logs" / "planet" / f"worker-{number}.log"
    return path.read_text() if path.exists() else ""


def check_exactly_n(user: InProcess, most_repeated: int) -> None:
    status = user.json("status")
    assert status["trials"]["finished"] == TRIALS
    assert status["trials"]["failed"] == status["trials"]["running"] == 0
    assert [trial["number"] for trial in user.json("trials")] == list(range(TRIALS))
    epochs = status["epochs"]
    repeated = epochs["trained"] + epochs["replayed"] - epochs["reported"]
    assert 0 <= repeated <= most_repeated


@pytest.mark.slow
def test_jobs_that_end_before_the_study_are_replaced_until_it_has_exactly_its_trials(
    user: InProcess, pace: Callable[[float], None]
) -> None:
    pace(2.0)
    process = start(user, 3, **{WORK_VARIABLE: "5"})
    wait_until(lambda: len(jobs(user)) >= 7, "each job is replaced", 120)
    pace(0.01)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, "")
    assert stdout.count(": its time is up") >= 4
    assert "goes on after epoch" in stdout
    check_exactly_n(user, most_repeated=len(jobs(user)))
    assert log(user, 1).count("begins") >= 2
    assert (user.folder / ".canopy" / "jobs" / "planet").stat().st_mode & 0o777 == 0o700
    assert job_processes(user) == []


@pytest.mark.slow
def test_ctrl_c_leaves_no_job_and_those_of_a_search_that_was_killed_are_called_off(
    user: InProcess, pace: Callable[[float], None]
) -> None:
    pace(3.0)
    process = start(user, 2)
    wait_until(lambda: all(CLAIMED in log(user, each) for each in (1, 2)), "both train")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=LEAVE_S)
    assert process.returncode == 130, stderr
    assert f"search --trials {TRIALS} --on slurm-local --workers 2 --hours 1" in stderr
    assert job_processes(user) == []
    assert user.json("status")["trials"]["running"] == 0

    process = start(user, 1)
    wait_until(lambda: log(user, 1).count(CLAIMED) == 2, "it goes on")
    process.kill()
    process.communicate()
    (before,) = jobs(user)
    assert len(job_processes(user)) == 2
    process = start(user, 1)
    wait_until(lambda: log(user, 1).count(CLAIMED) == 3, "the new job goes on")
    pace(0.01)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, "")
    assert f"jobs of a search that is gone are called off: {before.read_text()}" in stdout
    check_exactly_n(user, most_repeated=4)
    assert job_processes(user) == []
