"""The folders of jobs: nobody else's, and cleared of what earlier searches have left."""

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
    """A queue whose jobs are as a test says."""

    name = word = "made-up"
    look_every_s = leave_s = 1.0

    def __init__(self, living: Sequence[str] = ()) -> None:
        self.living = set(living)
        self.cancelled: list[str] = []

    def submit(self, folder: Path, at: int, arguments: Sequence[Any]) -> str:
        raise NotImplementedError

    def states(self, ids: Sequence[str]) -> dict[str, JobState] | None:
        return {each: JobState(is_over=each not in self.living) for each in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        self.cancelled += ids

    def kill(self, ids: Sequence[str]) -> None:
        raise NotImplementedError

    def output(self, folder: Path, job_id: str) -> list[Path]:
        raise NotImplementedError


_BEGINS = """
import sys
from pathlib import Path
from canopy_search.search.workers.slurm.folders import JobFolders
from tests.search.placement.test_job_folders import MadeUpQueue
folders = JobFolders(Path(sys.argv[1]), "demo")
folders.begin(MadeUpQueue(), print)
for job_id in ("11", "12"):
    folders.write_id(folders.new(), job_id)
sys.stdin.read()
"""


def begin_elsewhere(home: Path) -> "subprocess.Popen[str]":
    """Begins another search in a process, which waits."""
    return subprocess.Popen(
        [sys.executable, "-c", _BEGINS, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def begin(home: Path, living: Sequence[str]) -> tuple[MadeUpQueue, list[str]]:
    queue, notes = MadeUpQueue(living), []  # type: ignore[var-annotated]
    JobFolders(home, "demo").begin(queue, notes.append)
    return queue, notes


def test_jobs_of_a_search_that_was_killed_are_called_off(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    other = begin_elsewhere(tmp_path)
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
    folders.begin(MadeUpQueue(), print)
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [folders.name]
    assert not set(folders.name) & set("%/ \\")


def test_a_state_folder_that_slurm_would_read_as_a_pattern_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlacementError, match="CANOPY_HOME="):
        JobFolders(tmp_path / "50%", "demo")
