"""`canopy search --on ray`, on a cluster of several nodes of this machine."""

import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.faults.searching import PATIENCE_S, wait_until
from tests.integration.canopy_command import Canopy
from tests.integration.in_process import InProcess
from tests.integration.ray_cluster import RayCluster, wait_until_none
from tests.planet_data import write_planet_data

CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 16}
training: {epochs: 4, batch_size: 16, backbone: tinycnn_8}
search:
  study: planet
  pruner: {name: none}
  sampler: {name: random}
  space:
    loss: [bce, weighted_bce, focal_bce]
    gamma: {low: 0.80, high: 1.00, step: 0.01}
"""
TRIALS = 24
CLAIMED = "study planet:"
"""A worker says so when it has its first trial."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RayCluster]:
    cluster = RayCluster(tmp_path, ("one", "two", "three"))
    yield cluster
    cluster.close()


@pytest.fixture
def user(tmp_path: Path) -> Iterator[InProcess]:
    folder = tmp_path / "user"
    folder.mkdir()
    write_planet_data(folder, images=40, image_px=16)
    (folder / "canopy.yaml").write_text(CONFIG)
    user = InProcess(folder)
    yield user
    user.run("db", "stop", status=None)


@pytest.fixture
def old_canopy(tmp_path: Path) -> Path:
    """A folder with an older Canopy, as far as Python can see from its name."""
    described = tmp_path / "old" / "canopy_search-0.0.9.dist-info" / "METADATA"
    described.parent.mkdir(parents=True)
    described.write_text("Metadata-Version: 2.1\nName: canopy-search\nVersion: 0.0.9\n")
    return tmp_path / "old"


def log(user: Canopy) -> str:
    """Returns what Ray and all workers have printed."""
    path = user.folder / ".canopy" / "logs" / "planet" / "ray.log"
    return path.read_text() if path.exists() else ""


Start = Callable[[int], subprocess.Popen[str]]


@pytest.fixture
def start(user: InProcess, cluster: RayCluster) -> Iterator[Start]:
    """Starts the search on the cluster, with so many workers at most."""
    started: list[subprocess.Popen[str]] = []

    def begin(workers: int) -> subprocess.Popen[str]:
        words = ("search", "--trials", str(TRIALS), "--on", "ray", "--address", cluster.address)
        process = Canopy(user.folder).start(*words, "--workers", str(workers))
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_nodes_come_and_go_and_the_study_has_exactly_its_trials(
    cluster: RayCluster, user: InProcess, start: Start, old_canopy: Path
) -> None:
    process = start(3)
    wait_until(lambda: log(user).count(CLAIMED) == 3, "all train")
    workers = cluster.workers()
    assert len(workers) >= 6
    process.send_signal(signal.SIGINT)
    wait_until_none(workers, "they leave")
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, stderr
    assert "Ray: 3 nodes; 3 workers on" in stdout
    again = f"--trials {TRIALS} --workers 3 --on ray --address {cluster.address}"
    assert f"search {again}" in stderr
    assert user.json("status")["trials"]["running"] == 0

    process = start(9)
    wait_until(lambda: log(user).count(CLAIMED) == 6, "they go on")
    cluster.kill("two")
    cluster.add("four")
    cluster.add("five", python_path=old_canopy)
    wait_until(lambda: log(user).count(CLAIMED) == 7, "the new node trains")
    cluster.let_go()
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stderr) == (0, "")
    assert "on two is lost" in stdout
    here = re.escape(version("canopy-search"))
    needed = rf"^five .*canopy-search 0\.0\.9\b.*canopy-search=={here}"
    assert re.search(needed, stdout, re.MULTILINE)
    status = user.json("status")
    assert status["trials"]["finished"] == TRIALS
    assert status["trials"]["failed"] == status["trials"]["running"] == 0
    assert [trial["number"] for trial in user.json("trials")] == list(range(TRIALS))
    epochs = status["epochs"]
    assert 0 <= epochs["trained"] + epochs["replayed"] - epochs["reported"] <= 4
    shown = re.findall(r"^\[.*\] trial +(\d+) complete", stdout, re.MULTILINE)
    assert sorted(map(int, shown)) == list(range(TRIALS))
    wait_until(lambda: not cluster.workers(), "nothing is left on the nodes")
