"""`SlurmQueue` against scripts that behave like SLURM's commands."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from submitit.core.utils import pickle_load
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.workers.command import UNFIT, WorkerCommand
from canopy_search.search.workers.slurm import queue as queues
from canopy_search.search.workers.slurm.options import JobRequest
from canopy_search.search.workers.slurm.queue import JobState, RefusedError, SlurmQueue
from tests.reading_docs import ROOT
from tests.waiting import wait_until

COMMANDS = {
    "sbatch": """
if grep -q partition=nope "$1"; then
  echo "sbatch: error: invalid partition specified: nope" >&2
  echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
  exit 1
fi
cp "$1" script; echo "Submitted batch job 41"
export SLURM_JOB_ID=41 SLURM_PROCID=0 SLURM_LOCALID=0; bash "$1" >printed 2>&1 &
""",
    "srun": """
while [ "${1#-}" != "$1" ]; do
  case "$1" in --output|--error) shift;; esac; shift
done
exec "$@"
""",
    "squeue": """
if [ -e away ]; then echo "slurm_load_jobs error: Unable to contact slurmctld" >&2; exit 1; fi
if [ ! -e states ]; then echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; fi
cat states
""",
    "scancel": 'echo "$@" >> cancelled',
}


def command(version: str) -> WorkerCommand:
    return WorkerCommand(version, (), "", {"worker_id": 1, "workers": 1, "threads": 1}, {}, "home")


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmQueue:
    for name, text in COMMANDS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}")
        path.chmod(0o755)
    root = ROOT
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.chdir(tmp_path)
    return SlurmQueue(JobRequest(2, has_gpu=True, hours=2, partition="gpu"), "canopy-study", 1)


def test_a_job_is_submitted_and_runs(queue: SlurmQueue, tmp_path: Path) -> None:
    queues.check_slurm()
    folder = tmp_path / "job"
    folder.mkdir()
    assert queue.submit(folder, 0, command("0.0.1")) == "41"
    script = (tmp_path / "script").read_text()
    for line in ("partition=gpu", "gpus-per-node=1", "time=120", "no-requeue", "job-name=canopy"):
        assert f"#SBATCH --{line}" in script
    result = folder / "41_0_result.pkl"
    with suppress(AssertionError):  # what was printed says more
        wait_until(result.exists, "the job has ended")
    assert result.exists(), (tmp_path / "printed").read_text()
    outcome, (exit_status, reason) = pickle_load(result)
    assert (outcome, exit_status) == ("success", UNFIT)
    assert "expected canopy-search 0.0.1" in reason


def test_what_sbatch_refuses_is_told_in_one_line(
    tmp_path: Path, queue: SlurmQueue, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = SlurmQueue(JobRequest(1, has_gpu=False, hours=1, partition="nope"), "canopy", 1)
    message = (
        "invalid partition specified: nope; "
        "Batch job submission failed: Invalid partition name specified"
    )
    with pytest.raises(RefusedError, match=f"^{message}$"):
        refused.submit(tmp_path / "job", 0, command("1"))
    assert capsys.readouterr() == ("", "")


def test_states_are_those_of_squeue(
    queue: SlurmQueue, tmp_path: Path, words: SnapshotAssertion
) -> None:
    lines = [
        "1|PENDING||Resources",
        "2|RUNNING|node-1|None",
        "3|TIMEOUT|node-2|TimeLimit",
        "9|RUNNING|node-1|None",
    ]
    (tmp_path / "states").write_text("\n".join(lines))
    found = queue.states(["1", "2", "3", "4"])
    assert found is not None
    assert found["1"] == JobState(waits=True, text="Resources")
    assert found["2"] == JobState(host="node-1")
    assert all(found[job_id].is_over and not found[job_id].waits for job_id in "34")
    assert {job_id: state.text for job_id, state in found.items()} == words
    (tmp_path / "states").unlink()
    forgotten = queue.states(["1"])
    assert forgotten is not None
    assert forgotten["1"].is_over
    (tmp_path / "away").touch()
    assert queue.states(["1"]) is None


def test_jobs_are_cancelled_and_killed_with_scancel(queue: SlurmQueue, tmp_path: Path) -> None:
    queue.cancel(["1", "2"])
    queue.kill(["3"])
    queue.cancel([])
    assert (tmp_path / "cancelled").read_text() == "1 2\n--signal=KILL --full 3\n"
