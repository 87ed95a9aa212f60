"""A user whose search runs in jobs, which sleep instead of training."""

import subprocess
from pathlib import Path

from canopy_search.search.workers.slurm.folders import job_ids
from tests.integration.canopy_command import Canopy
from tests.integration.in_process import InProcess
from tests.integration.slurm_queue.sitecustomize import GATE_VARIABLE
from tests.planet_data import write_planet_data

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "tests" / "integration" / "slurm_queue"
CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 16}
training: {epochs: 4, batch_size: 16, backbone: tinycnn_8, threads: 1}
search:
  study: planet
  pruner: {name: none}
  sampler: {name: random}
  space:
    loss: [bce, weighted_bce, focal_bce]
    gamma: {low: 0.80, high: 1.00, step: 0.01}
"""
TRIALS = 24


class JobsUser(InProcess):
    """A user whose jobs sleep instead of training."""

    def _leave_others_template(self, environment: dict[str, str]) -> None:
        """Leaves it alone: what runs in the test's own process begins no worker."""

    def hold(self) -> None:
        """Lets all trials wait after their first epoch."""
        Path(self.variables[GATE_VARIABLE]).touch()

    def let_go(self) -> None:
        """Lets them go on."""
        Path(self.variables[GATE_VARIABLE]).unlink()

    def search(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a search in a process of its own."""
        given = ("search", "--trials", str(TRIALS), *arguments, "--workers", "3", "--hours", "0.1")
        return Canopy(self.folder, self.database_url, self.variables).start(*given)

    def job_ids(self) -> list[str]:
        """Returns which jobs were taken, in their order."""
        folders = sorted((self.folder / ".canopy" / "jobs" / "planet").glob("*"))
        return [job_id for folder in folders for job_id in job_ids(folder)]

    def at_work(self) -> list[str]:
        """Returns which jobs have claimed a trial, over or not."""
        return [job_id for job_id in self.job_ids() if "study planet:" in self.printed(job_id)]

    def printed(self, job_id: str) -> str:
        """Returns what a job has printed."""
        logs = (self.folder / ".canopy" / "jobs" / "planet").glob(f"*/{job_id}_0_log.*")
        return "".join(path.read_text() for path in sorted(logs))


def new_user(folder: Path) -> JobsUser:
    """Returns a user with data and a configuration.

    Args:
        folder: for the user's own, and what the tests need beside it.
    """
    own = folder / "user"
    own.mkdir()
    write_planet_data(own, images=40, image_px=16)
    (own / "canopy.yaml").write_text(CONFIG)
    variables = {"PYTHONPATH": f"{JOBS}:{ROOT}", GATE_VARIABLE: str(folder / "gate")}
    return JobsUser(own, variables=variables)


def check_whole(user: JobsUser, repeated: int) -> None:
    """Checks that a study has exactly its trials, and that few epochs were trained twice."""
    status = user.json("status")
    trials = status["trials"]
    assert (trials["finished"], trials["failed"], trials["running"]) == (TRIALS, 0, 0)
    assert [trial["number"] for trial in user.json("trials")] == list(range(TRIALS))
    epochs = status["epochs"]
    assert 0 <= epochs["trained"] + epochs["replayed"] - epochs["reported"] <= repeated
