"""Jobs that leave while there is something to do: others follow them."""

import os
import re
import signal
import sys
from collections import Counter
from multiprocessing import connection
from multiprocessing.context import ForkProcess
from pathlib import Path

from submitit.core.utils import cloudpickle_dump

from canopy_search.filestore.retry import RetryPolicy
from canopy_search.search.study.configuration import load_config
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.workers.command import CommandEnd, WorkerCommand
from canopy_search.search.workers.placed_worker import Placed
from canopy_search.search.workers.slurm import backend as on_slurm
from canopy_search.search.workers.slurm import job
from canopy_search.search.workers.slurm.backend import OnSlurm
from canopy_search.search.workers.slurm.options import JobRequest
from canopy_search.search.workers.slurm.queue import LocalQueue
from canopy_search.storage.workspace import Workspace
from tests.faults.conftest import NewSearch
from tests.faults.invariants import check
from tests.faults.searching import FORK, PATIENCE_S, quiet, wait_until
from tests.search.workers.slurm.test_folders import job_files


class ForkedWorker:
    """The command as a copy of the process that runs it: a start of Python costs seconds."""

    def __init__(self, command: WorkerCommand) -> None:
        reader, self._writer = os.pipe()
        self._process = FORK.Process(target=self._run, args=(command, reader))
        self._process.start()
        os.close(reader)

    def _run(self, command: WorkerCommand, reader: int) -> None:
        os.close(self._writer)
        os.dup2(reader, 0)
        sys.stdin = os.fdopen(0)
        config = Path(command.home, f"{os.getpid()}.yaml")
        config.write_text(command.config)
        placed = Placed(**command.placed)
        url, retry = command.environment["DATABASE_URL"], RetryPolicy(PATIENCE_S)
        workspace = Workspace(Path(command.home), url, retry)
        request = StudyRequest(workspace, load_config(config), command.arguments[1])
        sys.exit(placed.run(request, quiet))

    def wait(self) -> CommandEnd:
        connection.wait([self._process.sentinel])
        self._process.join()
        return self._process.exitcode or 0, ""

    def leave(self) -> None:
        self._process.terminate()


class ForkedJobs(LocalQueue):
    """Jobs that are copies of the process that submits them."""

    processes: dict[str, ForkProcess] = {}  # noqa: RUF012 - of one process

    def submit(self, folder: Path, index: int, command: WorkerCommand) -> str:
        process = FORK.Process(target=self._run, args=(folder, command))
        process.start()
        job_id = str(process.pid)
        self.processes[job_id] = process
        for path in job_files(folder, job_id):
            path.touch()
        return job_id

    def states(self, ids: list[str]) -> dict[str, on_slurm.JobState]:
        return {
            each: on_slurm.JobState(is_over=not self.processes[each].is_alive()) for each in ids
        }

    @staticmethod
    def _run(folder: Path, command: WorkerCommand) -> None:
        result = job.run_job(command)
        written = folder / f"{os.getpid()}.new"
        cloudpickle_dump(("success", result), written)
        written.rename(folder / f"{os.getpid()}_0_result.pkl")


def fork() -> None:
    on_slurm.LocalQueue = ForkedJobs
    job.CanopyWorker = ForkedWorker


def test_jobs_that_leave_are_followed_by_others(new_search: NewSearch) -> None:
    searched = new_search(8, prepare=fork)
    begun = searched.begin()
    searched.hold_from(3)
    jobs = OnSlurm(JobRequest(jobs=2, has_gpu=False, hours=1.0), is_local=True)
    launcher = searched.launch(elsewhere=jobs)
    searched.wait_for_epochs(4)  # both are in the middle of one
    first, second = searched.processes_of(launcher)
    first.terminate()  # as scancel and a preemption do
    second.send_signal(signal.SIGUSR2)  # as SLURM does some time before the limit
    wait_until(lambda: launcher.said().count("replaces") == 2, "others follow")
    searched.let_go()
    assert launcher.end() == 0, launcher.said()
    followed = re.findall(r"^job \d+ replaces job \d+: (.*)$", launcher.said(), re.MULTILINE)
    assert Counter(followed) == {"its time is up": 1, "it was asked to leave": 1}
    outcome = check(searched, begun)
    assert outcome.repeated == 0
    shown = re.findall(r"^\[.*\] trial +(\d+) ", launcher.said(), re.MULTILINE)
    assert set(map(int, shown)) == set(range(8))  # as the database says
