"""`canopy search --on slurm`, on as much of SLURM as submitit and Canopy see of it."""

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.postgres.postmaster import is_alive
from tests.faults.searching import PATIENCE_S, wait_until
from tests.integration.jobs_user import JOBS, TRIALS, JobsUser, check_whole, new_user
from tests.integration.slurm_queue.sitecustomize import FAR_VARIABLE
from tests.integration.slurm_queue.slurm import FOLDER_VARIABLE, living


@pytest.fixture
def cluster(tmp_path: Path, database_url: str) -> JobsUser:
    """The same user where SLURM has room for two jobs at a time."""
    user = new_user(tmp_path)
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


@pytest.fixture
def no_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begins no process that no worker will be a copy of: it takes seconds."""
    monkeypatch.setattr("canopy_search.search.workers.forkserver.warm_up", lambda: None)


def job(queue: Path, number: int) -> dict[str, Any]:
    """Returns what the cluster knows of a job."""
    known: dict[str, Any] = json.loads((queue / f"{number}.json").read_text())
    return known


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_slurm_runs_the_jobs_and_nothing_is_left_in_its_queue(cluster: JobsUser) -> None:
    asked = ("--on", "slurm", "--partition", "short", "--slurm", "account=vision")
    cluster.hold()
    process = cluster.search(*asked)
    wait_until(lambda: len(cluster.at_work()) == 2, "two jobs work")
    queue = Path(cluster.variables[FOLDER_VARIABLE])
    running = [each for number in (1, 2) for each in living(job(queue, number)["group"])]
    assert len(running) >= 4
    assert job(queue, 3)["state"] == "PENDING"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, stderr
    assert "SLURM: 3 jobs at a time in partition short, each with one worker on a CPU" in stdout
    again = "--workers 3 --on slurm --partition short --slurm account=vision --hours 0.1"
    assert f"search --trials {TRIALS} {again}" in stderr
    wait_until(lambda: not any(map(is_alive, running)), "they leave")
    assert job(queue, 3)["state"] == "CANCELLED"
    assert cluster.json("status")["trials"]["running"] == 0
    script = (queue / "1.sh").read_text()
    for line in ("account=vision", "partition=short", "time=6", "no-requeue", "signal=USR2@18"):
        assert f"#SBATCH --{line}\n" in script

    cluster.let_go()
    stdout, stderr = cluster.search(*asked).communicate(timeout=PATIENCE_S)
    assert stderr == ""
    assert f"study planet: {TRIALS} finished" in stdout
    check_whole(cluster, repeated=2)
    states = {job(queue, int(path.stem))["state"] for path in queue.glob("*.json")}
    assert states <= {"CANCELLED", "COMPLETED", "RUNNING"}
    for path in queue.glob("*.json"):
        assert not living(job(queue, int(path.stem))["group"])


@pytest.mark.usefixtures("no_template")
def test_what_slurm_does_not_take_is_one_line(cluster: JobsUser, words: SnapshotAssertion) -> None:
    asked = ("--on", "slurm", "--workers", "1", "--hours", "1", "--partition", "long")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "canopy_search.search.workers.slurm.backend.is_on_this_machine", lambda url: False
        )
        said = cluster.run("search", *asked, status=2)
    assert said.stderr == words


@pytest.mark.usefixtures("no_template")
def test_without_slurm_or_a_database_for_all_it_is_one_line(
    cluster: JobsUser, words: SnapshotAssertion
) -> None:
    asked = ("search", "--on", "slurm", "--workers", "1", "--hours", "1")
    near = cluster.run(*asked, status=2).stderr
    commands = Path(cluster.variables["PATH"].split(":")[0])
    shutil.rmtree(commands)
    bare = JobsUser(
        cluster.folder, cluster.database_url, cluster.variables | {"PATH": str(commands)}
    )
    none = bare.run(*asked, status=2).stderr
    assert [near, none] == words
