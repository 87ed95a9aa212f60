"""Folders of jobs: private to the owner, and cleaned up after earlier searches."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import PlacementError
from canopy_search.search.workers.slurm.folders import JobFolders
from canopy_search.search.workers.slurm.job import CALLED_OFF
from canopy_search.search.workers.slurm.queue import JobState
from tests.reading_docs import ROOT
from tests.waiting import wait_until


class MadeUpQueue:
    """A queue whose jobs have the states that a test sets."""

    name = word = "made-up"
    poll_every_s = leave_s = 1.0

    def __init__(self, alive: Sequence[str] = ()) -> None:
        self.alive = set(alive)
        self.cancelled: list[str] = []

    def submit(self, folder: Path, index: int, arguments: Sequence[Any]) -> str:
        raise NotImplementedError

    def states(self, ids: Sequence[str]) -> dict[str, JobState] | None:
        return {job_id: JobState(is_over=job_id not in self.alive) for job_id in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        self.cancelled += ids

    def kill(self, ids: Sequence[str]) -> None:
        raise NotImplementedError

    def output(self, folder: Path, job_id: str) -> list[Path]:
        raise NotImplementedError


_START = """
import sys
from pathlib import Path
from canopy_search.search.workers.slurm.folders import JobFolders
from tests.search.workers.slurm.test_folders import MadeUpQueue
folders = JobFolders(Path(sys.argv[1]), "demo")
folders.create(MadeUpQueue(), print)
for job_id in ("11", "12"):
    folders.write_id(folders.new(), job_id)
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
    queue, notes = MadeUpQueue(alive), []  # type: ignore[var-annotated]
    JobFolders(home, "demo").create(queue, notes.append)
    return queue, notes


def test_jobs_of_a_search_that_was_killed_are_called_off(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    other = start_elsewhere(tmp_path)
    wait_for_jobs(tmp_path)
    queue, notes = begin(tmp_path, ["11", "12"])
    assert queue.cancelled == []
    assert notes == words(name="another search")

    other.kill()
    other.communicate()
    queue, notes = begin(tmp_path, ["12"])
    assert queue.cancelled == ["12"]
    assert notes == words(name="called off")
    said = [path.read_text() for path in sorted(tmp_path.glob(f"jobs/demo/*/*/{CALLED_OFF}"))]
    assert said == ["", "called off\n"]

    queue, notes = begin(tmp_path, [])
    assert (queue.cancelled, notes) == ([], [])
    assert not list(tmp_path.glob("jobs/demo/*/*/job-id"))


def wait_for_jobs(home: Path) -> None:
    wait_until(lambda: len(list(home.glob("jobs/demo/*/0002/job-id"))) == 1, "two jobs")


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
