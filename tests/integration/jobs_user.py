"""A user whose search runs in jobs, which sleep instead of training."""

import subprocess
from pathlib import Path

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
        written = (self.folder / ".canopy" / "jobs" / "planet").glob("*/*/job-id")
        return [path.read_text() for path in sorted(written)]

    def is_at_work(self, number: int, times: int = 1) -> bool:
        """Whether jobs of a post have claimed trials so many times."""
        log = self.folder / ".canopy" / "logs" / "planet" / f"worker-{number}.log"
        return log.exists() and log.read_text().count("study planet:") >= times


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
