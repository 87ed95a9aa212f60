"""A search that is interrupted or killed goes on, and its total stays exact."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.canopy_command import Canopy
from tests.planet_data import write_planet_data

CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 32}
training: {epochs: 6, batch_size: 4, backbone: tinycnn_8, optimizer: {lr: 3e-3}}
search:
  study: planet
  pruner: {name: none}
  space:
    loss: [bce, weighted_bce, focal_bce]
    gamma: {low: 0.80, high: 1.00, step: 0.05}
"""
PATIENCE_S = 120


def user(folder: Path, database_url: str | None = None) -> Canopy:
    write_planet_data(folder, images=160)
    (folder / "canopy.yaml").write_text(CONFIG)
    return Canopy(folder, database_url)


def wait_for_epochs(canopy: Canopy, epochs: int) -> None:
    """Waits until a running trial has trained some epochs but not all."""
    deadline = time.monotonic() + PATIENCE_S
    folder = canopy.folder / ".canopy" / "checkpoints"
    seen: set[int] = set()
    while time.monotonic() < deadline:
        for file in folder.glob("*/*.pt"):
            try:
                seen.add(file.stat().st_mtime_ns)
            except FileNotFoundError:
                continue
        if len(seen) >= epochs:
            return
        time.sleep(0.01)
    raise AssertionError("the search trained nothing")


def assert_exact(canopy: Canopy, trials: int, repeated: int) -> None:
    """Checks the total, that no trial was lost, and that few epochs were trained twice."""
    status = canopy.json("status")
    assert status["trials"]["finished"] == trials
    assert status["trials"]["failed"] == status["trials"]["running"] == 0
    assert [trial["number"] for trial in canopy.json("trials")] == list(range(trials))
    epochs = status["epochs"]
    extra = epochs["trained"] + epochs["replayed"] - epochs["reported"]
    assert 0 <= extra <= repeated


@pytest.fixture(scope="module")
def undisturbed(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[object, object]]:
    canopy = user(tmp_path_factory.mktemp("undisturbed"), postgres_url)
    canopy.run("search", "--trials", "4", "--study", "undisturbed")
    return outcome(canopy, "--study", "undisturbed")


def outcome(canopy: Canopy, *arguments: str) -> list[tuple[object, object]]:
    return [(t["params"], t["val_ap"]) for t in canopy.json("trials", *arguments)]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_same_command_goes_on_after_a_stop(
    database_url: str,
    tmp_path: Path,
    undisturbed: list[tuple[object, object]],
    how: signal.Signals,
) -> None:
    canopy = user(tmp_path, database_url)
    stops = 0
    for epochs in (2, 3):
        process = canopy.start("search", "--trials", "4")
        wait_for_epochs(canopy, epochs)
        process.send_signal(how)
        _, stderr = process.communicate(timeout=PATIENCE_S)
        if how != signal.SIGKILL:
            assert process.returncode == 130
            assert "Go on with:" in stderr
        stops += 1
    assert canopy.json("status")["trials"]["finished"] < 4
    assert canopy.run("search", "--trials", "4").stderr == ""
    assert_exact(canopy, trials=4, repeated=stops)
    # Neither what was sampled nor what was trained shows that anything happened.
    assert outcome(canopy) == undisturbed


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[Canopy]:
    canopy = user(tmp_path)
    yield canopy
    canopy.run("db", "stop")


def test_it_goes_on_after_everything_was_killed_postgres_too(
    own_postgres: Canopy, undisturbed: list[tuple[object, object]]
) -> None:
    process = own_postgres.start("search", "--trials", "4")
    wait_for_epochs(own_postgres, 3)
    kill_with_postgres(own_postgres, process)
    own_postgres.run("search", "--trials", "4")
    assert_exact(own_postgres, trials=4, repeated=1)
    assert outcome(own_postgres) == undisturbed


def test_a_postgres_that_dies_is_started_again_and_the_search_goes_on(
    own_postgres: Canopy, undisturbed: list[tuple[object, object]]
) -> None:
    process = own_postgres.start("search", "--trials", "4")
    wait_for_epochs(own_postgres, 3)
    refused = own_postgres.run("db", "stop", status=2).stderr
    assert "1 worker would start it again; stop the search first" in refused
    kill_postgres(own_postgres)
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stderr) == (0, "")
    assert "the database is away" in stdout
    assert "the database is back after" in stdout
    assert_exact(own_postgres, trials=4, repeated=1)
    assert outcome(own_postgres) == undisturbed


def kill_with_postgres(canopy: Canopy, process: subprocess.Popen[str]) -> None:
    workers = psutil.Process(process.pid).children(recursive=True)
    for member in [process, *workers]:
        os.kill(member.pid, signal.SIGKILL)
    kill_postgres(canopy)
    process.communicate(timeout=PATIENCE_S)


def kill_postgres(canopy: Canopy) -> None:
    postmaster_file = canopy.folder / ".canopy" / "postgres" / "data" / "postmaster.pid"
    postmaster = psutil.Process(int(postmaster_file.read_text().split()[0]))
    assert "postgres" in postmaster.name()
    family = [postmaster, *postmaster.children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=30)


def test_two_searches_that_begin_a_study_at_once_share_it(
    database_url: str, tmp_path: Path
) -> None:
    canopy = user(tmp_path, database_url)
    processes = [canopy.start("search", "--trials", "6") for _ in range(2)]
    for process in processes:
        _, stderr = process.communicate(timeout=2 * PATIENCE_S)
        assert (process.returncode, stderr) == (0, "")
    assert_exact(canopy, trials=6, repeated=0)
