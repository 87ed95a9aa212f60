"""`canopy confirm` with real workers, one of which is killed; and what becomes of its numbers."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.config.yaml_file import read_yaml
from canopy_search.search.workflows import confirm
from canopy_search.storage.database import Database
from canopy_search.storage.workspace import Workspace
from tests.integration.conftest import OUTPUT
from tests.integration.epoch_gate import EpochGate
from tests.integration.in_process import InProcess

ASKED = ("confirm", "--top", "2", "--seeds", "2", "--workers", "2")
KEPT = {
    "trials": "SELECT trial_id, state, datetime_complete FROM trials ORDER BY trial_id",
    "scores": "SELECT trial_id, scored FROM canopy_test ORDER BY trial_id",
    "stages": "SELECT key, times_trained FROM canopy_stage ORDER BY key",
    "workers": "SELECT id FROM canopy_worker ORDER BY id",
}


@pytest.fixture
def user(own_finished: InProcess) -> InProcess:
    """Somebody whose study has ended."""
    return own_finished


@pytest.fixture
def database(user: InProcess) -> Iterator[Database]:
    with closing(Workspace(user.folder / ".canopy", user.database_url).open()) as opened:
        yield opened


def everything(database: Database) -> dict[str, list[Any]]:
    with database.engine.connect() as connection:
        return {
            name: [tuple(row) for row in connection.execute(sqlalchemy.text(query))]
            for name, query in KEPT.items()
        }


@contextmanager
def killing_a_worker(database: Database, url: str | None, study: str) -> Iterator[list[int]]:
    """Kills a worker of a study in the middle of its second epoch; yields its process id."""
    query = sqlalchemy.text("""
        SELECT pid FROM canopy_trial JOIN trials USING (trial_id) JOIN studies USING (study_id)
        JOIN canopy_worker ON canopy_worker.id = canopy_trial.worker
        WHERE study_name = :study
    """)
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        with EpochGate(url, 2) as gate:
            closed.set()
            gate.wait(over)
            with database.engine.connect() as connection:
                killed.extend(connection.scalars(query, {"study": study}).all()[:1])
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    closed = threading.Event()
    thread = threading.Thread(target=kill)
    thread.start()
    closed.wait()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_finalists_are_confirmed_though_a_worker_dies(
    user: InProcess, database: Database, words: SnapshotAssertion
) -> None:
    proposed = (user.folder / OUTPUT).read_text()
    assert " confirm " in proposed.partition("Next:")[2]
    with killing_a_worker(database, user.database_url, "planet/confirm") as killed:
        output = user.run(*ASKED).stdout
    assert len(killed) == 1
    assert output.count("SIGKILL") == 1

    status = user.json("status", "--study", "planet/confirm")
    assert (status["trials"]["complete"], status["trials"]["finished"]) == (6, 6)
    assert status["trials"]["failed"] == status["trials"]["running"] == 0
    epochs = status["epochs"]
    # The epoch under way, and those whose checkpoints were waiting to be written.
    assert 0 <= epochs["trained"] + epochs["replayed"] - epochs["reported"] <= 3

    before = everything(database)
    known = user.json(*ASKED)
    shown = user.run(*ASKED).stdout
    assert everything(database) == before
    assert shown.strip() in output  # the end of the first time, and nothing else

    trials = user.json("trials", "--study", "planet/confirm")
    assert len(before["scores"]) == len(trials) == 6, "only runs of finalists are tested"
    ranked = sorted(user.json("trials"), key=lambda trial: (-trial["val_ap"], trial["number"]))
    finalists = [each["trial"] for each in known["settings"] if each["finalist"]]
    assert sorted(finalists) == sorted(trial["number"] for trial in ranked[:2])
    [base] = [each for each in known["settings"] if each["baseline"]]
    assert base["params"] == user.json("trials")[0]["params"]
    for each in known["settings"]:
        for split in ("val_ap", "test_ap"):
            values = [run[split] for run in each["runs"]]
            assert each[split]["mean"] == pytest.approx(np.mean(values))
            assert each[split]["sd"] == pytest.approx(np.std(values, ddof=1))
    winner = max(known["settings"], key=lambda each: each["val_ap"]["mean"])
    assert known["winner"]["params"] == winner["params"]
    assert f"TEST AP of the winner: {winner['test_ap']['mean']:.4f}".replace("0.", ".") in output

    user.run("best", "--output", "best.yaml")
    best = read_yaml(user.folder / "best.yaml")
    assert best["provenance"]["trial"] == winner["trial"]
    assert best["provenance"]["confirmation"]["test_ap"] == winner["test_ap"]
    text = (user.folder / "best.yaml").read_text()
    assert text.partition("\n")[0] == words
    # `canopy train` knows nothing of any of this, and comes to the same numbers.
    for run in winner["runs"]:
        again = text.replace("seed: 1  #", f"seed: {run['seed']}  #")
        (user.folder / "again.yaml").write_text(again)
        alone = user.json("train", "again.yaml")
        assert {name: alone[name] for name in run["test"]} == run["test"]
        assert alone["val_ap"] == run["val_ap"]


def test_a_search_ends_with_a_confirmation_where_its_configuration_says_so(
    user: InProcess, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    with (user.folder / "canopy.yaml").open("a") as file:
        file.write("confirm: {top: 9, seeds: 2}\n")

    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(confirm, "run_search", interrupted)
        assert "canopy search" in user.run("search", status=130).stderr
        assert "confirm --top 2" in user.run(*ASKED, status=130).stderr
    settings = {str(trial["params"]) for trial in user.json("trials")}
    runs = 2 * len(settings)
    output = user.run("search").stdout
    assert re.search(rf"\[{runs}/{runs}\] trial +{runs - 1} complete", output)
    only = next(line for line in output.splitlines() if "settings to confirm" in line)
    [title] = [line for line in output.splitlines() if "finalists of" in line]
    assert [line.replace(f"{len(settings)} ", "ALL ") for line in (only, title.strip())] == words
    following = output.partition("Next:")[2]
    assert "best.yaml" in following
    assert "canopy confirm" not in following


def test_what_is_not_there_cannot_be_confirmed(finished: InProcess) -> None:
    assert "'planit'" in finished.run("confirm", "--study", "planit", status=2).stderr
    refused = finished.run("confirm", "--seeds", "1", status=2).stderr
    assert "--seeds" in refused
