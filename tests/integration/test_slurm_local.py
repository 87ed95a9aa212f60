"""`canopy search --on slurm-local`: jobs of submitit's local executor end before the study does."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.faults.searching import wait_until
from tests.integration.jobs_user import FAST_S, TRIALS, JobsUser, check_whole, new_user
from tests.integration.slurm_queue.sitecustomize import WORKS_VARIABLE

PATIENCE_S = 200.0


@pytest.fixture
def user(tmp_path: Path) -> Iterator[JobsUser]:
    user = new_user(tmp_path)
    user = replace(user, variables=user.variables | {WORKS_VARIABLE: "8"})
    yield user
    user.run("db", "stop", status=None)


def test_jobs_that_end_before_the_study_are_followed_by_others(user: JobsUser) -> None:
    process = user.search("--on", "slurm-local")
    wait_until(lambda: all(user.is_at_work(number) for number in (1, 2, 3)), "all work", PATIENCE_S)
    psutil.Process(int(user.job_ids()[0])).terminate()  # as scancel and a preemption do
    wait_until(lambda: len(user.job_ids()) >= 6, "each has its next job", PATIENCE_S)
    user.set_pace(FAST_S)
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stderr) == (0, "")
    followed = re.findall(r"^job \d+ comes after job \d+: (.*)$", stdout, re.MULTILINE)
    assert followed.count("it was told to leave") == 1
    assert followed.count("its time is up") >= 2
    assert "goes on after epoch" in stdout
    assert "was killed" not in stdout
    assert f"study planet: {TRIALS} finished" in stdout
    check_whole(user, repeated=len(followed))
    assert not any(psutil.pid_exists(int(each)) for each in user.job_ids())
