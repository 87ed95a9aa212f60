"""`canopy trials`, of a study of ours and of one that plain Optuna made."""

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from tests.integration.in_process import InProcess
from tests.integration.plain_optuna import NAME, make_plain_study


@pytest.fixture
def user(tmp_path: Path, database_url: str) -> InProcess:
    return InProcess(tmp_path, database_url)


@pytest.fixture
def store(database: Database) -> Iterator[StudyStore]:
    store = StudyStore(database)
    make_plain_study(store)
    yield store
    store.close()


def test_trials_of_plain_optuna_are_filtered_and_sorted(store: StudyStore, user: InProcess) -> None:
    def numbers(*options: str) -> list[int]:
        found = user.json("trials", "--study", NAME, *options)
        return [trial["number"] for trial in found]

    everything = user.json("trials", "--study", NAME)
    assert [trial["value"] for trial in everything] == [3.5, 1.9, 1.78, 1.25, 1.54]
    assert all(trial["val_ap"] is None for trial in everything)
    assert numbers("--top", "2") == [3, 4]  # the study minimises
    best = user.json("status", "--study", NAME)["best"]
    assert (best["number"], best["value"]) == (3, 1.25)
    status = user.run("status", "--study", NAME).stdout
    assert "best value 1.25: trial 3, " in status
    assert numbers("--sort", "ap", "--state", "complete", "--state", "failed") == [3, 2, 0]
    assert numbers("--last", "2") == [3, 4]
    kind = everything[0]["params"]["kind"]
    expected = [trial["number"] for trial in everything if trial["params"]["kind"] == kind]
    assert numbers("--where", f"kind={kind}") == expected

    shown = user.run("trials", "--study", NAME).stdout
    assert "[red]c" in shown or all(t["params"]["kind"] != "[red]c" for t in everything)
    assert "rate [1/s]" in shown
    assert "1.25" in shown


def test_the_objective_that_is_shown_is_said(database: Database, user: InProcess) -> None:
    store = StudyStore(database)
    study = optuna.create_study(
        storage=store.optuna_storage, study_name="two", directions=["minimize", "maximize"]
    )
    study.tell(study.ask(), [0.5, 1.0])
    study.tell(study.ask(), [0.25, 0.5])
    store.close()
    shown = user.run("status", "--study", "two").stdout
    assert "best value 0.25: trial 1" in shown
    assert "2 objectives" in shown


READING = [
    ["status"],
    ["status", "--json"],
    ["trials"],
    ["export", "--output", "trials.csv"],
    ["report"],
    ["diary"],
    ["compare", "0", "3"],
    ["pause"],
    ["resume"],
    ["stop"],
]


def test_a_broken_configuration_is_no_obstacle_for_who_names_the_study(
    store: StudyStore, user: InProcess, tmp_path: Path
) -> None:
    (tmp_path / "canopy.yaml").write_text("search: [")

    for command in READING:
        user.run(*command, "--study", NAME)


def test_an_empty_study_has_an_empty_table(database: Database, user: InProcess) -> None:
    store = StudyStore(database)
    store.open_study("planet")
    store.close()
    assert "val AP" in user.run("trials", "--study", "planet", "--top", "3").stdout
    assert user.json("trials", "--study", "planet", "--where", "gamma=1") == []


def test_wrong_names_are_refused_with_what_there_is(store: StudyStore, user: InProcess) -> None:
    for options, named in (
        (["--state", "done"], ["complete", "pruned", "failed", "running"]),
        (["--where", "net=a"], ["'net'", "rate [1/s]", "kind"]),
        (["--sort", "age"], ["'age'"]),
        (["--top", "0"], ["--top"]),
    ):
        refused = user.run("trials", "--study", NAME, *options, status=2)
        for name in named:
            assert name in refused.stderr
        assert refused.stdout == ""
