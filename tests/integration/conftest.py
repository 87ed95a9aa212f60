"""One finished study, searched once a run of the tests, that many tests ask or go on with."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from filelock import FileLock

from tests.databases import within
from tests.integration.canopy_command import Canopy
from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data
from tests.shared_servers import SharedServers, execute

# The fourth setting learns nothing and so is pruned: its AP is .5, and all others' .8 and more.
# The first one, which others are compared with, is the worst of those (.82, .85 and .88).
FINISHED_CONFIG = """
data:
  labels: train_classes.csv
  images: train-jpg
  image_px: 32
  augment: [hflip, vflip, rot90]
  split: {validation: 0.25, test: 0.25}
training: {epochs: 3, batch_size: 8, threads: 1}
search:
  study: planet
  trials: 5
  pruner: {name: median, n_startup_trials: 2, n_warmup_steps: 1}
  space:
    backbone: [tinycnn_8, tinyresnet_8]
    loss: [bce, weighted_bce, focal_bce]
    gamma: {low: 0.80, high: 1.00, step: 0.05}
    optimizer.lr: [3e-3, 1e-6]
  enqueue:
    - {backbone: tinycnn_8, loss: weighted_bce, gamma: 1.0, optimizer.lr: 3e-3}
    - {backbone: tinycnn_8, loss: bce, gamma: 1.0, optimizer.lr: 3e-3}
    - {backbone: tinycnn_8, loss: focal_bce, gamma: 1.0, optimizer.lr: 3e-3}
    - {backbone: tinycnn_8, loss: bce, gamma: 1.0, optimizer.lr: 1e-6}
"""
FINISHED_IMAGES = 80
FINISHED_TRIALS = 5
OUTPUT = "output.txt"
_TEMPLATE = "canopy_finished"


@pytest.fixture(scope="session")
def _finished(
    servers: SharedServers, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of the user who searched; their database is `_TEMPLATE`."""
    folder = servers.folder / "finished"
    with FileLock(servers.folder / "finished.lock"):
        if not folder.exists():
            user_folder = tmp_path_factory.mktemp("finished") / "user"
            write_planet_data(user_folder, images=FINISHED_IMAGES)
            (user_folder / "canopy.yaml").write_text(FINISHED_CONFIG)
            execute(postgres_url, f"CREATE DATABASE {_TEMPLATE}")
            url = within(postgres_url, _TEMPLATE)
            searched = Canopy(user_folder, url).run("search")
            (user_folder / OUTPUT).write_text(searched.stdout)
            user_folder.rename(folder)
    return folder


def _copied(postgres_url: str, finished: Path, folder: Path) -> Iterator[InProcess]:
    shutil.copytree(finished, folder, symlinks=True)
    name = f"canopy_{uuid4().hex}"
    execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield InProcess(folder, within(postgres_url, name))
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def finished(
    postgres_url: str, _finished: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InProcess]:
    """Somebody with a finished study, for tests that only read it."""
    yield from _copied(postgres_url, _finished, tmp_path_factory.mktemp("finished") / "user")


@pytest.fixture
def own_finished(postgres_url: str, _finished: Path, tmp_path: Path) -> Iterator[InProcess]:
    """Somebody with a finished study of their own, to go on with or to spoil."""
    yield from _copied(postgres_url, _finished, tmp_path / "finished")
