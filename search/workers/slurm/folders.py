"""The folders of a search's jobs, in the state folder, which SLURM's nodes share."""

import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil

from canopy_search.search.errors import PlacementError
from canopy_search.search.workers.slurm.job import CALLED_OFF, EVENTS
from canopy_search.search.workers.slurm.queue import Queue

_ID = "job-id"
_STARTER = "starter"


class JobFolders:
    """Makes a folder for each job; all of a search lie in one, and all of a study in another.

    What the jobs are given holds the database's password, so the study's folder is its owner's
    alone.

    Args:
        home: the state folder.
        study: name of the study, in which any character may stand.

    Attributes:
        home: the state folder.
        name: of the study's folder.

    Raises:
        PlacementError: SLURM would read the folder's name as a pattern.
    """

    def __init__(self, home: Path, study: str) -> None:
        if "%" in str(home):
            raise PlacementError(
                f"CANOPY_HOME={home}: SLURM reads % in the names of files as a pattern; choose a "
                "folder without it"
            )
        self.home = home
        self.name = _folder_name(study)
        self._study = home / "jobs" / self.name
        self._search = self._study
        self._count = 0

    def begin(self, queue: Queue, note: Callable[[str], None]) -> None:
        """Makes the folder, and clears away what earlier searches have left.

        Their jobs are called off where their starter is gone for certain: nobody hears what they
        tell nor replaces them, they may work to other settings, and they would be more than are
        asked for now. Their trials are released, and go on in the new jobs.

        Args:
            queue: that the jobs are in.
            note: is told of jobs that are called off, and of those that are not.
        """
        self._study.mkdir(parents=True, exist_ok=True)
        self._study.chmod(0o700)
        called_off, left_alone = [], []
        for folder in sorted(self._study.glob(f"*.{queue.word}")):
            jobs = dict(_jobs(folder))
            states = queue.states(list(jobs)) if jobs else {}
            alive = [each for each in jobs if states is None or not states[each].is_over]
            gone = _is_gone(folder)
            if alive and not gone:
                left_alone += alive
            elif alive:
                for each in alive:
                    (jobs[each] / CALLED_OFF).write_text("called off\n")
                queue.cancel(alive)
                called_off += alive
            elif gone:
                shutil.rmtree(folder, ignore_errors=True)
        if called_off:
            note(f"jobs of a search that is gone are called off: {' '.join(called_off)}")
        if left_alone:
            note(f"jobs of another search work on the study, too: {' '.join(left_alone)}")
        self._search = (
            self._study / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:6]}.{queue.word}"
        )
        self._search.mkdir(mode=0o700)
        began_s = psutil.Process().create_time()
        (self._search / _STARTER).write_text(f"{socket.gethostname()} {os.getpid()} {began_s}\n")

    def new(self) -> Path:
        """Returns the folder of one more job."""
        self._count += 1
        folder = self._search / f"{self._count:04}"
        folder.mkdir()
        # A network file system may know for a minute that a file is not there.
        for name in (EVENTS, CALLED_OFF):
            (folder / name).touch()
        return folder

    @staticmethod
    def write_id(folder: Path, job_id: str) -> None:
        """Writes down which job a folder belongs to."""
        (folder / _ID).write_text(job_id)


def _folder_name(study: str) -> str:
    """Returns a name without what SLURM, submitit or a shell may read as something else."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", study)
    if plain == study and not study.startswith("."):
        return study
    return f"{plain.lstrip('.')[:60]}-{hashlib.sha256(study.encode()).hexdigest()[:8]}"


def _jobs(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.glob(f"*/{_ID}"):
        with suppress(OSError):
            yield path.read_text().strip(), path.parent


def _is_gone(folder: Path) -> bool:
    """Whether the starter of a search is gone for certain."""
    try:
        host, pid, began_s = (folder / _STARTER).read_text().split()
    except (OSError, ValueError):
        return True  # it was killed before it had written that
    if host != socket.gethostname():
        return False
    with suppress(psutil.NoSuchProcess):
        return abs(psutil.Process(int(pid)).create_time() - float(began_s)) > 1
    return True
