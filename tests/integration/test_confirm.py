"""`canopy confirm` with real workers, one of which is killed; and what becomes of its numbers."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy

import search.confirm
from search.yaml_file import read_yaml
from storage.database import Database
from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data

CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 32}
training: {epochs: 4, batch_size: 4, backbone: tinycnn_8, threads: 1, optimizer: {lr: 3e-3}}
search:
  study: planet
  trials: 3
  pruner: {name: none}
  space: {loss: [bce, weighted_bce], gamma: {low: 0.80, high: 1.00, step: 0.05}}
  enqueue: [{loss: weighted_bce, gamma: 1.0}, {loss: bce, gamma: 0.9}, {loss: bce, gamma: 0.8}]
"""
ASKED = ("confirm", "--top", "2", "--seeds", "2", "--workers", "2")
PATIENCE_S = 60
KEPT = {
    "trials": "SELECT trial_id, state, datetime_complete FROM trials ORDER BY trial_id",
    "scores": "SELECT trial_id, scored FROM canopy_test ORDER BY trial_id",
    "stages": "SELECT key, times_trained FROM canopy_stage ORDER BY key",
    "workers": "SELECT id FROM canopy_worker ORDER BY id",
}


@pytest.fixture
def user(database: Database, database_url: str, tmp_path: Path) -> InProcess:
    write_planet_data(tmp_path, images=120)
    (tmp_path / "canopy.yaml").write_text(CONFIG)
    return InProcess(tmp_path, database_url)


def everything(database: Database) -> dict[str, list[Any]]:
    with database.engine.connect() as connection:
        return {
            name: [tuple(row) for row in connection.execute(sqlalchemy.text(query))]
            for name, query in KEPT.items()
        }


@contextmanager
def killing_a_worker(database: Database, study: str) -> Iterator[list[int]]:
    """Kills the first worker of a study that has trained an epoch; yields its process id."""
    query = sqlalchemy.text("""
        SELECT pid FROM canopy_trial JOIN trials USING (trial_id) JOIN studies USING (study_id)
        JOIN canopy_worker ON canopy_worker.id = canopy_trial.worker
        WHERE study_name = :study
          AND EXISTS (SELECT FROM canopy_epoch WHERE trial_id = trials.trial_id AND epoch < 4)
    """)
    killed: list[int] = []

    def kill() -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not killed and time.monotonic() < deadline_s:
            with database.engine.connect() as connection:
                killed.extend(connection.scalars(query, {"study": study}).all()[:1])
            time.sleep(0.01)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    yield killed
    thread.join()


def test_finalists_are_confirmed_though_a_worker_dies(user: InProcess, database: Database) -> None:
    proposed = user.run("search").stdout
    assert "confirm" in proposed.partition("Next:")[2]
    with killing_a_worker(database, "planet/confirm") as killed:
        output = user.run(*ASKED).stdout
    assert len(killed) == 1
    assert "was killed by SIGKILL; another one begins" in output

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
    assert base["params"] == {"loss": "weighted_bce", "gamma": 1.0}
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
    assert text.startswith("# Chosen by mean validation AP over 2 further seeds, of 2 finalists")
    # `canopy train` knows nothing of any of this, and comes to the same numbers.
    for run in winner["runs"]:
        again = text.replace("seed: 1  #", f"seed: {run['seed']}  #")
        (user.folder / "again.yaml").write_text(again)
        alone = user.json("train", "again.yaml")
        assert {name: alone[name] for name in run["test"]} == run["test"]
        assert alone["val_ap"] == run["val_ap"]


def test_a_search_ends_with_a_confirmation_where_its_configuration_says_so(
    user: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (user.folder / "canopy.yaml").open("a") as file:
        file.write("confirm: {top: 9, seeds: 2}\n")

    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(search.confirm, "run_search", interrupted)
        assert "Go on with:" in user.run("search", status=130).stderr
        assert "confirm --top 2" in user.run(*ASKED, status=130).stderr
    output = user.run("search").stdout
    assert "the study has 3 different settings to confirm, and no more" in output
    assert "[6/6] trial 5 complete" in output
    assert "3 finalists of study planet, trained with seeds 1 and 2" in output
    following = output.partition("Next:")[2]
    assert "best.yaml" in following
    assert "canopy confirm" not in following


def test_what_is_not_there_cannot_be_confirmed(user: InProcess) -> None:
    assert "there is no study 'planet'" in user.run("confirm", status=2).stderr
    refused = user.run("confirm", "--seeds", "1", status=2).stderr
    assert "--seeds" in refused
