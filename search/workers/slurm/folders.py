"""Folder of a search's jobs, in the state folder, which all SLURM nodes share."""

import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psutil

from canopy_search.search.environment import folder_name
from canopy_search.search.errors import PlacementError
from canopy_search.search.workers.slurm.queue import Queue

_SUBMITTED = "_submitted.pkl"
"""End of the name of submitit's file for a job, after its id."""
_STARTER = "starter"


class JobFolders:
    """Creates a folder for the jobs of a search, inside one for the study.

    The jobs' environment contains the database password, so only the owner can access the study's
    folder.

    Args:
        home: the state folder.
        study: name of the study; any character is allowed.

    Attributes:
        home: the state folder.
        name: name of the study's folder.

    Raises:
        PlacementError: SLURM would read the folder's name as a pattern.
    """

    def __init__(self, home: Path, study: str) -> None:
        if "%" in str(home):
            raise PlacementError(
                f"CANOPY_HOME={home}: SLURM reads % in file names as a pattern; choose a folder "
                "without it"
            )
        self.home = home
        self.name = folder_name(study)
        self._study = home / "jobs" / self.name

    def create(self, queue: Queue, note: Callable[[str], None]) -> Path:
        """Creates the folder of this search, and cleans up after earlier searches.

        Jobs of an earlier search are cancelled if its process is known to be dead: nothing replaces
        them, they may use other settings, and they would exceed the number of jobs requested now.
        Their trials are released, and the new jobs resume them.

        Args:
            queue: the queue of the jobs.
            note: receives messages about cancelled jobs and about jobs of other searches.
        """
        self._study.mkdir(parents=True, exist_ok=True)
        self._study.chmod(0o700)
        cancelled, not_cancelled = [], []
        for folder in sorted(self._study.glob(f"*.{queue.word}")):
            jobs = job_ids(folder)
            states = queue.states(jobs) if jobs else {}
            alive = [job_id for job_id in jobs if states is None or not states[job_id].is_over]
            is_dead = _is_dead(folder)
            if alive and not is_dead:
                not_cancelled += alive
            elif alive:
                queue.cancel(alive)
                cancelled += alive
            elif is_dead:
                shutil.rmtree(folder, ignore_errors=True)
        if cancelled:
            note(f"cancelled jobs of a search that no longer runs: {' '.join(cancelled)}")
        if not_cancelled:
            note(f"jobs of another search also work on the study: {' '.join(not_cancelled)}")
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:6]}.{queue.word}"
        folder = self._study / name
        folder.mkdir(mode=0o700)
        started_s = psutil.Process().create_time()
        (folder / _STARTER).write_text(f"{socket.gethostname()} {os.getpid()} {started_s}\n")
        return folder


def job_ids(folder: Path) -> list[str]:
    """Returns the ids of the jobs submitted in a search's folder, in their order."""
    paths = sorted(
        folder.glob(f"*{_SUBMITTED}"), key=lambda path: (path.stat().st_mtime_ns, path.name)
    )
    return [path.name.removesuffix(_SUBMITTED) for path in paths]


def _is_dead(folder: Path) -> bool:
    """Whether the process that started a search is known to be dead."""
    try:
        host, pid, started_s = (folder / _STARTER).read_text().split()
        if host != socket.gethostname():
            return False
        return abs(psutil.Process(int(pid)).create_time() - float(started_s)) > 1
    except (OSError, ValueError, psutil.NoSuchProcess):
        return True  # or it was killed before it wrote the file
