"""`canopy search --on slurm-local`: jobs of submitit's local executor."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.searching import PATIENCE_S, wait_until
from tests.integration.jobs_user import TRIALS, JobsUser, check_whole, new_user


@pytest.fixture
def user(tmp_path: Path) -> Iterator[JobsUser]:
    user = new_user(tmp_path)
    yield user
    user.run("db", "stop", status=None)


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_jobs_that_end_before_the_study_are_followed_by_others(user: JobsUser) -> None:
    user.hold()
    process = user.search("--on", "slurm-local")
    wait_until(lambda: len(user.at_work()) == 3, "all work")
    cancelled, *others = map(int, user.at_work())
    psutil.Process(cancelled).terminate()  # as scancel and a preemption do
    for job_id in others:  # as the executor does, some time before the limit
        for task in psutil.Process(job_id).children():
            task.send_signal(signal.SIGUSR2)
    wait_until(lambda: len(user.at_work()) >= 6, "each has its next job")
    user.let_go()
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stderr) == (0, "")
    followed = re.findall(r"^job \d+ replaces job \d+: (.*)$", stdout, re.MULTILINE)
    assert followed.count("it was asked to leave") == 1
    assert followed.count("its time is up") == 2
    assert "resumes after epoch" in stdout
    assert "was killed" not in stdout
    assert f"study planet: {TRIALS} finished" in stdout
    check_whole(user, repeated=len(followed))
    assert not any(psutil.pid_exists(int(each)) for each in user.job_ids())
