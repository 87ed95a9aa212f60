"""`canopy search --on slurm`, on as much of SLURM as submitit and Canopy see of it."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.postmaster import is_alive
from tests.faults.searching import wait_until
from tests.integration.canopy_command import Canopy
from tests.integration.in_process import InProcess
from tests.integration.slurm_queue.sitecustomize import (
    FAR_VARIABLE,
    PACE_VARIABLE,
)
from tests.integration.slurm_queue.slurm import FOLDER_VARIABLE, living
from tests.planet_data import write_planet_data

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "tests" / "integration" / "slurm_queue"
CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 16}
training: {epochs: 4, batch_size: 16, backbone: tinycnn_8, threads: 1}
search:
  study: planet
  pruner: {name: none}
  sampler: {name: random}
  space:
    loss: [bce, weighted_bce, focal_bce]
    gamma: {low: 0.80, high: 1.00, step: 0.01}
"""
TRIALS = 24
SLOW_S, FAST_S = 0.6, 0.01
LEAVE_S = 20.0


class JobsUser(InProcess):
    """A user whose jobs sleep instead of training."""

    def set_pace(self, pace_s: float) -> None:
        """Lets an epoch take so many seconds."""
        pace = Path(self.variables[PACE_VARIABLE])
        fresh = pace.with_suffix(".new")
        fresh.write_text(str(pace_s))
        fresh.replace(pace)

    def search(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a search in a process of its own."""
        given = ("search", "--trials", str(TRIALS), *arguments, "--workers", "3", "--hours", "0.1")
        return Canopy(self.folder, self.database_url, self.variables).start(*given)

    def is_at_work(self, number: int, times: int = 1) -> bool:
        """Whether jobs of a post have claimed trials so many times."""
        log = self.folder / ".canopy" / "logs" / "planet" / f"worker-{number}.log"
        return log.exists() and log.read_text().count("study planet:") >= times


@pytest.fixture
def user(tmp_path: Path) -> Iterator[JobsUser]:
    folder = tmp_path / "user"
    folder.mkdir()
    write_planet_data(folder, images=40, image_px=16)
    (folder / "canopy.yaml").write_text(CONFIG)
    variables = {
        "PYTHONPATH": f"{JOBS}:{ROOT}",
        PACE_VARIABLE: str(tmp_path / "pace"),
    }
    user = JobsUser(folder, variables=variables)
    user.set_pace(SLOW_S)
    yield user
    if user.database_url is None:
        user.run("db", "stop", status=None)


@pytest.fixture
def cluster(user: JobsUser, tmp_path: Path, database_url: str) -> JobsUser:
    """The same user where SLURM has room for two jobs at a time."""
    folder, commands = tmp_path / "cluster", tmp_path / "bin"
    folder.mkdir()
    commands.mkdir()
    (folder / "slots").write_text("2")
    source = (JOBS / "slurm.py").read_text()
    for name in ("sbatch", "squeue", "scancel", "srun"):
        command = commands / name
        command.write_text(f"#!{sys.executable}\n{source}")
        command.chmod(0o755)
    path = f"{commands}:{Path(sys.executable).parent}:/usr/bin:/bin"
    more = {"PATH": path, FOLDER_VARIABLE: str(folder), FAR_VARIABLE: "1"}
    return JobsUser(user.folder, database_url, user.variables | more)


def check_whole(user: JobsUser, repeated: int) -> None:
    """Checks that a study has exactly its trials, and that few epochs were trained twice."""
    status = user.json("status")
    trials = status["trials"]
    assert (trials["finished"], trials["failed"], trials["running"]) == (TRIALS, 0, 0)
    assert [trial["number"] for trial in user.json("trials")] == list(range(TRIALS))
    epochs = status["epochs"]
    assert 0 <= epochs["trained"] + epochs["replayed"] - epochs["reported"] <= repeated


def job(queue: Path, number: int) -> dict[str, Any]:
    """Returns what the cluster knows of a job."""
    known: dict[str, Any] = json.loads((queue / f"{number}.json").read_text())
    return known


@pytest.mark.slow
def test_slurm_runs_the_jobs_and_nothing_is_left_in_its_queue(cluster: JobsUser) -> None:
    asked = ("--on", "slurm", "--partition", "short", "--slurm", "account=vision")
    process = cluster.search(*asked)
    wait_until(lambda: cluster.is_at_work(1) and cluster.is_at_work(2), "two jobs work")
    queue = Path(cluster.variables[FOLDER_VARIABLE])
    running = [each for number in (1, 2) for each in living(job(queue, number)["group"])]
    assert len(running) >= 4
    assert job(queue, 3)["state"] == "PENDING"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=LEAVE_S + 10)
    assert process.returncode == 130, stderr
    assert "SLURM: 3 jobs at a time in partition short, each with one worker on a CPU" in stdout
    again = "--on slurm --partition short --slurm account=vision --workers 3 --hours 0.1"
    assert f"search --trials {TRIALS} {again}" in stderr
    wait_until(lambda: not any(map(is_alive, running)), "they leave", LEAVE_S)
    assert job(queue, 3)["state"] == "CANCELLED"
    assert cluster.json("status")["trials"]["running"] == 0
    script = (queue / "1.sh").read_text()
    for line in ("account=vision", "partition=short", "time=6", "no-requeue", "signal=USR2@9"):
        assert f"#SBATCH --{line}\n" in script

    cluster.set_pace(FAST_S)
    stdout, stderr = cluster.search(*asked).communicate(timeout=120)
    assert stderr == ""
    assert f"study planet: {TRIALS} finished" in stdout
    check_whole(cluster, repeated=2)
    states = {job(queue, int(path.stem))["state"] for path in queue.glob("*.json")}
    assert states <= {"CANCELLED", "COMPLETED", "RUNNING"}
    for path in queue.glob("*.json"):
        assert not living(job(queue, int(path.stem))["group"])


def test_what_slurm_does_not_take_is_one_line(cluster: JobsUser) -> None:
    asked = ("--on", "slurm", "--workers", "1", "--hours", "1", "--partition", "long")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.placement.on_slurm.is_on_this_machine", lambda url: False)
        said = cluster.run("search", *asked, status=2)
    assert said.stderr == (
        "canopy: SLURM does not take the job: invalid partition specified: long; Batch job "
        "submission failed: Invalid partition name specified; check --partition, --gpus, --hours "
        "and --slurm\n"
    )


def test_without_slurm_or_a_database_for_all_it_is_one_line(cluster: JobsUser) -> None:
    asked = ("search", "--on", "slurm", "--workers", "1", "--hours", "1")
    said = cluster.run(*asked, status=2).stderr
    assert said.startswith("canopy: the database of DATABASE_URL cannot be reached from the nodes")
    commands = Path(cluster.variables["PATH"].split(":")[0])
    shutil.rmtree(commands)
    bare = JobsUser(
        cluster.folder, cluster.database_url, cluster.variables | {"PATH": str(commands)}
    )
    said = bare.run(*asked, status=2).stderr
    assert said.startswith("canopy: no SLURM here: sbatch, srun, squeue, scancel not found on PATH")
    assert "--on slurm-local" in said
    assert len(said.splitlines()) == 1
