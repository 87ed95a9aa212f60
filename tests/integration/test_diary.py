"""`canopy diary` where there is little to tell, and where something else lies in its place."""

import re
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from tests.integration.in_process import InProcess
from tests.integration.plain_optuna import NAME, make_plain_study

DIARY = "EXPERIMENTS.md"


@pytest.fixture
def user(database: Database, database_url: str, tmp_path: Path) -> InProcess:
    store = StudyStore(database)
    make_plain_study(store)
    store.open_study("empty")
    store.close()
    return InProcess(tmp_path, database_url)


def test_a_study_of_plain_optuna_and_an_empty_one_have_a_diary(
    user: InProcess, words: SnapshotAssertion
) -> None:
    user.run("diary", "--study", NAME)
    text = (user.folder / DIARY).read_text()
    [about] = [line for line in text.splitlines() if "Plain Optuna" in line]
    assert re.sub(r" \(.*\)", "", about) == words  # the values are random
    assert r"# Experiments of study \=cmd\|'\<b\>plain\</b\>" in text
    assert "1. trial 3 (" in text.partition("## Finalists")[2]
    assert text.count("\n## ") == 7  # all five, finalists, decision
    user.run("diary", "--study", "empty", "--output", "empty.md")
    assert "no trials yet" in (user.folder / "empty.md").read_text()
    assert "no study 'none'" in user.run("diary", "--study", "none", status=2).stderr


def test_a_file_that_is_no_diary_of_the_study_stays_as_it_is(
    user: InProcess, words: SnapshotAssertion
) -> None:
    path = user.folder / DIARY
    path.write_text("# My own diary\n")
    said = []
    for option in ((), ("--force",)):
        said.append(user.run("diary", "--study", NAME, *option, status=2).stderr)
        assert said[-1].startswith(f"canopy: {DIARY}: ")
    assert path.read_text() == "# My own diary\n"
    path.unlink()
    user.run("diary", "--study", "empty")
    kept = path.read_text()
    said.append(user.run("diary", "--study", NAME, status=2).stderr)
    assert "'empty'" in said[-1]
    assert said == words

    doubled = kept.replace("<!-- words: top -->", "<!-- words: top -->\n" * 2)
    path.write_text(doubled)
    assert f"{DIARY}, line 7: " in user.run("diary", "--study", "empty", status=2).stderr
    assert path.read_text() == doubled


def test_changes_elsewhere_are_dropped_by_force_alone(
    user: InProcess, words: SnapshotAssertion
) -> None:
    path = user.folder / DIARY
    user.run("diary", "--study", "empty")
    written = path.read_text()
    mine = written.replace("<!-- words: top -->\n", "<!-- words: top -->\nMine.", 1)
    path.write_text(mine + "And this.\n")
    refused = user.run("diary", "--study", "empty", status=2).stderr
    assert refused == words
    assert path.read_text() == mine + "And this.\n"
    assert "in 1 place" in user.run("diary", "--study", "empty", "--force").stdout
    assert path.read_text() == mine


def test_a_configured_diary_must_be_a_file(tmp_path: Path) -> None:
    user = InProcess(tmp_path)
    for path in ("''", "/", "5", "[]"):
        (tmp_path / "canopy.yaml").write_text(
            f"data: {{demo: digits}}\nsearch: {{diary: {path}}}\n"
        )
        refused = user.run("status", status=2).stderr
        assert "search.diary: expected" in refused, path
