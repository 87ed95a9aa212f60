"""Jobs that leave while there is something to do: others follow them."""

import re
from collections import Counter
from collections.abc import Sequence
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from canopy_search.search.workers.slurm import backend as on_slurm
from canopy_search.search.workers.slurm import job
from canopy_search.search.workers.slurm.backend import OnSlurm
from canopy_search.search.workers.slurm.options import JobRequest
from canopy_search.search.workers.slurm.queue import JobState, LocalQueue
from tests.faults.conftest import NewSearch
from tests.faults.deaths import Prepare, nth_time
from tests.faults.invariants import check
from tests.faults.searching import FORK, wait_until


class ForkedJobs(LocalQueue):
    """Jobs that are copies of the process that submits them: a start of Python costs seconds."""

    def __init__(self, request: JobRequest) -> None:
        super().__init__(request)
        self._jobs: dict[str, ForkProcess] = {}

    def submit(self, folder: Path, index: int, arguments: Sequence[Any]) -> str:
        process = FORK.Process(target=job.run_job, args=tuple(arguments))
        process.start()
        self._jobs[str(process.pid)] = process
        return str(process.pid)

    def states(self, ids: Sequence[str]) -> dict[str, JobState]:
        return {each: JobState(is_over=not self._jobs[each].is_alive()) for each in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        for each in ids:
            self._jobs[each].terminate()

    def kill(self, ids: Sequence[str]) -> None:
        for each in ids:
            self._jobs[each].kill()


def forking(counter: Path) -> Prepare:
    """Forks jobs, the first of which has no time left as it begins."""

    def left_s(limit_s: float) -> float:
        return job.margin_s(limit_s) if nth_time(counter) == 1 else limit_s

    def prepare() -> None:
        on_slurm.LocalQueue = ForkedJobs  # type: ignore[misc]
        job.left_s = left_s

    return prepare


def test_jobs_that_leave_are_followed_by_others(new_search: NewSearch, tmp_path: Path) -> None:
    searched = new_search(8, prepare=forking(tmp_path / "jobs"))
    begun = searched.begin()
    searched.hold_from(3)
    jobs = OnSlurm(JobRequest(jobs=2, has_gpu=False, hours=1.0), is_local=True)
    launcher = searched.launch(elsewhere=jobs)
    searched.wait_for_epochs(4)  # both are in the middle of one
    searched.processes_of(launcher)[0].terminate()  # as scancel and a preemption do
    wait_until(lambda: launcher.said().count("replaces") == 2, "others follow")
    searched.let_go()
    assert launcher.end() == 0, launcher.said()
    followed = re.findall(r"^job \d+ replaces job \d+: (.*)$", launcher.said(), re.MULTILINE)
    assert Counter(followed) == {"its time is up": 1, "it was asked to leave": 1}
    outcome = check(searched, begun)
    assert outcome.repeated == 0
