"""Folders of jobs: private to the owner, and cleaned up after earlier searches."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import PlacementError
from canopy_search.search.workers.command import WorkerCommand
from canopy_search.search.workers.slurm.folders import JobFolders, job_ids
from canopy_search.search.workers.slurm.queue import JobState
from tests.reading_docs import ROOT
from tests.waiting import wait_until


class MadeUpQueue:
    """A queue whose jobs have the states that a test sets."""

    name = word = "made-up"
    poll_every_s = leave_s = results_s = 1.0

    def __init__(self, alive: Sequence[str] = ()) -> None:
        self.alive = set(alive)
        self.cancelled: list[str] = []

    def submit(self, folder: Path, index: int, command: WorkerCommand) -> str:
        raise NotImplementedError

    def states(self, ids: Sequence[str]) -> dict[str, JobState] | None:
        return {job_id: JobState(is_over=job_id not in self.alive) for job_id in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        self.cancelled += ids

    def kill(self, ids: Sequence[str]) -> None:
        raise NotImplementedError


def job_files(folder: Path, job_id: str) -> list[Path]:
    """Returns the files that submitit writes for a job that has started."""
    names = ("submitted.pkl", "0_log.out", "0_log.err")
    return [folder / f"{job_id}_{name}" for name in names]


_START = """
import sys
from pathlib import Path
from canopy_search.search.workers.slurm.folders import JobFolders
from tests.search.workers.slurm.test_folders import MadeUpQueue, job_files
folder = JobFolders(Path(sys.argv[1]), "demo").create(MadeUpQueue(), print)
for job_id in ("11", "12"):
    job_files(folder, job_id)[0].touch()
sys.stdin.read()
"""


def start_elsewhere(home: Path) -> "subprocess.Popen[str]":
    """Starts another search in a process, which waits."""
    return subprocess.Popen(
        [sys.executable, "-c", _START, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def begin(home: Path, alive: Sequence[str]) -> tuple[MadeUpQueue, list[str]]:
    queue, notes = MadeUpQueue(alive), []
    JobFolders(home, "demo").create(queue, notes.append)
    return queue, notes


def jobs_in(home: Path) -> list[str]:
    return [job_id for folder in home.glob("jobs/demo/*") for job_id in job_ids(folder)]


def test_jobs_of_a_search_that_was_killed_are_called_off(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    other = start_elsewhere(tmp_path)
    wait_until(lambda: jobs_in(tmp_path) == ["11", "12"], "two jobs")
    queue, notes = begin(tmp_path, ["11", "12"])
    assert queue.cancelled == []
    assert notes == words(name="another search")

    other.kill()
    other.communicate()
    queue, notes = begin(tmp_path, ["12"])
    assert queue.cancelled == ["12"]
    assert notes == words(name="called off")

    queue, notes = begin(tmp_path, [])
    assert (queue.cancelled, notes) == ([], [])
    assert jobs_in(tmp_path) == []


def test_the_folder_with_the_database_password_is_its_owners_alone(tmp_path: Path) -> None:
    begin(tmp_path, [])
    folder = tmp_path / "jobs" / "demo"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    begin(tmp_path, [])
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("study", ["a/b", "../up", "%j", "a b", "ä", ".hidden", "x" * 200 + "/"])
def test_any_name_of_a_study_is_a_plain_folder(tmp_path: Path, study: str) -> None:
    folders = JobFolders(tmp_path, study)
    assert folders.name != JobFolders(tmp_path, study + "x").name
    folders.create(MadeUpQueue(), print)
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [folders.name]
    assert not set(folders.name) & set("%/ \\")


def test_a_state_folder_that_slurm_would_read_as_a_pattern_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlacementError, match="CANOPY_HOME="):
        JobFolders(tmp_path / "50%", "demo")
