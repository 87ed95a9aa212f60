"""A search that is interrupted or killed goes on, and its total stays exact."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import psutil
import pytest
from syrupy.assertion import SnapshotAssertion

from tests.faults.searching import PATIENCE_S, wait_until
from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data

CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 16}
training: {epochs: 4, batch_size: 4, backbone: tinycnn_8, threads: 1, optimizer: {lr: 3e-3}}
search:
  study: planet
  pruner: {name: none}
  space:
    loss: [bce, weighted_bce, focal_bce]
    gamma: {low: 0.80, high: 1.00, step: 0.05}
"""
TRIALS = 4
ENDLESS = ("search", "--trials", "100000")
"""However slow whoever stops it is, it is in the middle."""
Outcome = list[tuple[object, object]]


def user(folder: Path, database_url: str | None = None) -> InProcess:
    write_planet_data(folder, images=60, image_px=16)
    (folder / "canopy.yaml").write_text(CONFIG)
    return InProcess(folder, database_url)


def checkpoints(canopy: InProcess) -> set[str]:
    """Returns the states that are there, the names of which are those of epochs."""
    return {file.name for file in (canopy.folder / ".canopy" / "checkpoints").glob("*/*.pt")}


def wait_for_epochs(canopy: InProcess, before: set[str]) -> None:
    """Waits until two more epochs have been trained than there were."""
    seen: set[str] = set()

    def are_trained() -> bool:
        seen.update(checkpoints(canopy) - before)
        return len(seen) >= 2

    wait_until(are_trained, "the search trains")


def finish(canopy: InProcess) -> int:
    """Lets a study come to its end, without a word; returns how many trials it has then."""
    finished = canopy.json("status")["trials"]["finished"]
    trials = max(TRIALS, finished + 1)
    assert canopy.run("search", "--trials", str(trials)).stderr == ""
    return trials


def assert_exact(canopy: InProcess, trials: int, repeated: int) -> None:
    """Checks the total, that no trial was lost, and that few epochs were trained twice."""
    status = canopy.json("status")
    assert status["trials"]["finished"] == trials
    assert status["trials"]["failed"] == status["trials"]["running"] == 0
    assert [trial["number"] for trial in canopy.json("trials")] == list(range(trials))
    epochs = status["epochs"]
    extra = epochs["trained"] + epochs["replayed"] - epochs["reported"]
    assert 0 <= extra <= repeated


@pytest.fixture(scope="module")
def undisturbed(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    canopy = user(tmp_path_factory.mktemp("undisturbed"), postgres_url)
    canopy.run("search", "--trials", str(TRIALS), "--study", "undisturbed")
    return outcome(canopy, "--study", "undisturbed")


def outcome(canopy: InProcess, *arguments: str) -> Outcome:
    trials = canopy.json("trials", *arguments)[:TRIALS]
    return [(trial["params"], trial["val_ap"]) for trial in trials]


def test_the_same_command_goes_on_after_every_kind_of_stop(
    database_url: str, tmp_path: Path, undisturbed: Outcome, words: SnapshotAssertion
) -> None:
    canopy = user(tmp_path, database_url)
    stops = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
    said = []
    for how in stops:
        before = checkpoints(canopy)
        process = canopy.start(*ENDLESS)
        wait_for_epochs(canopy, before)
        process.send_signal(how)
        _, stderr = process.communicate(timeout=PATIENCE_S)
        if how != signal.SIGKILL:
            assert process.returncode == 130
            said.append(re.sub(r"\S+ search --trials", "canopy search --trials", stderr))
    assert said[0] == said[1] == words
    trials = finish(canopy)
    assert_exact(canopy, trials, repeated=len(stops))
    # Neither what was sampled nor what was trained shows that anything happened.
    assert outcome(canopy) == undisturbed


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[InProcess]:
    canopy = user(tmp_path)
    yield canopy
    canopy.run("db", "stop")


@pytest.mark.exhaustive
def test_a_postgres_that_dies_is_started_again_by_the_search_or_by_the_next_one(
    own_postgres: InProcess, undisturbed: Outcome
) -> None:
    process = own_postgres.start(*ENDLESS)
    wait_for_epochs(own_postgres, set())
    assert "1 worker would start it again" in own_postgres.run("db", "stop", status=2).stderr
    kill_postgres(own_postgres)
    assert process.stdout is not None
    said = list(takewhile(lambda line: "database is back" not in line, process.stdout))
    assert "database is unavailable" in "".join(said)
    assert process.poll() is None
    kill_with_postgres(own_postgres, process)
    trials = finish(own_postgres)
    assert_exact(own_postgres, trials, repeated=2)
    assert outcome(own_postgres) == undisturbed


def kill_with_postgres(canopy: InProcess, process: subprocess.Popen[str]) -> None:
    workers = psutil.Process(process.pid).children(recursive=True)
    for member in [process, *workers]:
        os.kill(member.pid, signal.SIGKILL)
    kill_postgres(canopy)
    process.communicate(timeout=PATIENCE_S)


def kill_postgres(canopy: InProcess) -> None:
    postmaster_file = canopy.folder / ".canopy" / "postgres" / "data" / "postmaster.pid"
    postmaster = psutil.Process(int(postmaster_file.read_text().split()[0]))
    assert "postgres" in postmaster.name()
    family = [postmaster, *postmaster.children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family)


def test_two_searches_that_begin_a_study_at_once_share_it(
    empty_database_url: str, tmp_path: Path
) -> None:
    canopy = user(tmp_path, empty_database_url)
    processes = [canopy.start("search", "--trials", str(TRIALS)) for _ in range(2)]
    for process in processes:
        _, stderr = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, stderr) == (0, "")
    assert_exact(canopy, TRIALS, repeated=0)
