"""The dashboard on real studies: what it adds, what it writes, and what people write."""

import csv
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import pytest
import sqlalchemy
from optuna.trial import TrialState

from canopy_search.dashboards.optuna_dashboard.app import Dashboard
from canopy_search.dashboards.optuna_dashboard.note import MARK
from canopy_search.dashboards.study.reader import StudyReader
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.session import WorkerSession
from canopy_search.storage.workspace import Workspace
from tests.dashboards.clearml.growing_study import GrowingStudy, val_ap
from tests.dashboards.optuna_dashboard.visitor import Visitor, stored
from tests.integration.plain_optuna import make_plain_study

PATIENCE_S = 240.0
WORDS = "Raise the **rate** next time."


@pytest.fixture
def user_study(study: GrowingStudy, database: Database) -> Iterator[optuna.Study]:
    """The study as a program of the user has it from Optuna."""
    store = StudyStore(database)
    yield store.load_study(study.name)
    store.close()


def note_of(shown: Any) -> tuple[str, str]:
    """What is above the mark of the study's note, and what is below it."""
    ours, mark, words = shown["note"]["body"].partition(MARK)
    assert mark
    return ours, words.strip()


def saved(visitor: Visitor, study_id: int, shown: Any, body: str) -> int:
    """Saves a note as the editor does that was opened on what was shown; returns the status."""
    edited = {"version": shown["note"]["version"] + 1, "body": body}
    return visitor.send("PUT", f"/api/studies/{study_id}/note", edited).status


def test_a_study_comes_with_note_and_figures(visitor: Visitor, study: GrowingStudy) -> None:
    shown = visitor.open(study.study_id)
    ours, words = note_of(shown)
    assert ours.startswith("## ")
    assert "1 active worker" in ours
    assert words == ""
    figures = [each["id"] for each in shown["plotly_graph_objects"]]
    assert {"over-trials", "over-time", "curves", "labels", "timeline"} <= set(figures)
    assert len(set(figures)) == len(figures)
    drawn = [json.loads(each["graph_object"]) for each in shown["plotly_graph_objects"]]
    assert all(figure["layout"]["title"]["text"] for figure in drawn)
    assert shown["artifacts"] == []
    reasons = {each["key"]: each["value"] for each in shown["trials"][1]["user_attrs"]}
    assert reasons["reason"] == "below the median"


def test_only_the_studys_attributes_are_written_and_only_once_for_a_loaded_page(
    visitor: Visitor, study: GrowingStudy, database: Database
) -> None:
    before = stored(database)
    visitor.study(study.study_id)
    visitor.open(study.study_id)
    opened = stored(database)
    assert {name for name in opened if opened[name] != before[name]} == {"study_system_attributes"}
    study.report(3, 2)
    for address in (
        "/dashboard",  # as a health check asks for it
        "/api/meta",
        "/api/studies",
        f"/api/studies/{study.study_id}?after=0",
        f"/api/studies/{study.study_id}/param_importances",
        f"/api/studies/{study.study_id}/plot/timeline",
        f"/csv/{study.study_id}",
        f"/canopy/studies/{study.study_id}",
        f"/canopy/studies/{study.study_id}/trials.csv",
    ):
        assert visitor.get(address).status in {200, 400}, address  # one trial has no importances
    assert stored(database)["study_system_attributes"] == opened["study_system_attributes"]


def test_nothing_is_there_twice_after_the_dashboard_was_started_again(
    visitor: Visitor, study: GrowingStudy, database: Database, tmp_path: Path
) -> None:
    study.end(3, TrialState.COMPLETE)
    study.close()  # note and figures of a study that is searched say how late it is
    shown = visitor.open(study.study_id)
    before = stored(database)
    again = Visitor(Dashboard(database, tmp_path / "uploads", lambda data: data.name))
    assert again.open(study.study_id)["note"] == shown["note"]
    assert stored(database) == before

    study.run()
    later = again.open(study.study_id)
    ids = [[each["id"] for each in found["plotly_graph_objects"]] for found in (shown, later)]
    assert set(ids[0]) <= set(ids[1])
    assert len(set(ids[1])) == len(ids[1])
    assert later["note"]["body"].count(MARK) == 1
    assert "2 complete" in note_of(shown)[0]
    assert "3 complete" in note_of(later)[0]


@pytest.mark.usefixtures("few_figures")
def test_an_open_page_shows_new_trials_and_its_note_stays(
    visitor: Visitor, study: GrowingStudy
) -> None:
    shown = visitor.open(study.study_id)
    number = study.run(1, TrialState.PRUNED)
    deadline = time.monotonic() + PATIENCE_S
    while len((polled := visitor.study(study.study_id))["trials"]) == number:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert polled["note"] == shown["note"]


def test_report_and_files_are_made_when_they_are_opened(
    visitor: Visitor, study: GrowingStudy
) -> None:
    shown = visitor.open(study.study_id)
    ours, _ = note_of(shown)
    report = f"/canopy/studies/{study.study_id}"
    study.run()
    page = visitor.get(report)
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert b"trial 4" in page.body.lower()
    assert page.headers["cache-control"] == "no-store"
    files = {}
    for name, kind in (
        ("best.yaml", "text/plain"),
        ("labels.csv", "text/csv"),
        ("trials.csv", "text/csv"),
    ):
        assert f"({report}/{name})" in ours
        reply = visitor.get(f"{report}/{name}")
        assert reply.status == 200
        assert reply.headers["content-type"].startswith(kind)
        assert f'filename="{name}"' in reply.headers["content-disposition"]
        files[name] = reply.body.decode()
    assert files["best.yaml"] == "planet"
    labels = list(csv.DictReader(io.StringIO(files["labels.csv"])))
    best = val_ap(4, 3)
    assert {row["label"]: float(row["val_ap"]) for row in labels} == pytest.approx(
        {"clear": best, "road": best / 2}
    )
    trials = list(csv.DictReader(io.StringIO(files["trials.csv"])))
    assert {row["number"] for row in trials} == {"0", "1", "2", "3", "4"}
    for nowhere in (f"{report}/other.csv", "/canopy/studies/77", "/canopy/studies/77/best.yaml"):
        missing = visitor.get(nowhere)
        assert missing.status == 404
        assert missing.json()["reason"]


@pytest.mark.usefixtures("few_figures")
def test_people_upload_files_and_remove_them(
    visitor: Visitor, study: GrowingStudy, tmp_path: Path
) -> None:
    address = f"/api/artifacts/{study.study_id}"
    sent = {"file": "data:text/plain;base64,aGVsbG8=", "filename": "hello.txt"}
    uploaded = visitor.send("POST", address, sent)
    assert uploaded.status == 201
    file_id = uploaded.json()["artifact_id"]
    assert (tmp_path / "uploads" / file_id).read_bytes() == b"hello"
    assert visitor.get(f"/artifacts/{study.study_id}/{file_id}").body == b"hello"
    assert [f["filename"] for f in visitor.open(study.study_id)["artifacts"]] == ["hello.txt"]
    removed = visitor.send("DELETE", f"{address}/{file_id}")
    assert removed.status == 200
    assert removed.json() == {}  # its page takes an answer without JSON for a failure
    assert visitor.study(study.study_id)["artifacts"] == []


@pytest.mark.usefixtures("few_figures")
def test_a_persons_words_are_kept_and_what_is_ours_goes_on(
    visitor: Visitor, study: GrowingStudy
) -> None:
    shown = visitor.open(study.study_id)
    study.report(3, 2)  # while the editor is open
    assert visitor.study(study.study_id)["note"] == shown["note"]
    body = f"{shown['note']['body']}\n{WORDS}\n"
    assert saved(visitor, study.study_id, shown, body) == 200
    assert visitor.study(study.study_id)["note"]["body"] == body

    study.end(3, TrialState.COMPLETE)
    later = visitor.open(study.study_id)
    ours, words = note_of(later)
    assert words == WORDS
    assert "2 complete" in ours
    emptied = saved(visitor, study.study_id, later, "")
    assert emptied == 200
    assert note_of(visitor.open(study.study_id)) == (ours, "")


@pytest.mark.usefixtures("few_figures")
def test_who_saves_an_older_note_is_told_and_loses_nothing(
    visitor: Visitor, study: GrowingStudy
) -> None:
    shown = visitor.open(study.study_id)
    study.end(3, TrialState.COMPLETE)
    later = visitor.open(study.study_id)  # in another window
    address = f"/api/studies/{study.study_id}/note"
    edited = {"version": shown["note"]["version"] + 1, "body": WORDS}
    refused = visitor.send("PUT", address, edited)
    assert refused.status == 409
    assert "copy your edits" in refused.json()["reason"]
    assert visitor.open(study.study_id)["note"] == later["note"]
    for nonsense in ({"version": 2}, {"version": 2, "body": None}, [], None):
        assert visitor.send("PUT", address, nonsense).status >= 400
    assert visitor.study(study.study_id)["note"] == later["note"]


@pytest.mark.usefixtures("few_figures")
@pytest.mark.parametrize(
    "kept", [f"My title\n\n{MARK}\n\n{WORDS}", f"## Ours, as I changed it\n\n{MARK}\n", MARK]
)
def test_a_note_that_an_earlier_version_stored_with_the_mark_stays_as_it_is(
    visitor: Visitor, study: GrowingStudy, user_study: optuna.Study, kept: str
) -> None:
    optuna_dashboard.save_note(user_study, kept)
    for _ in range(2):
        assert visitor.open(study.study_id)["note"] == {"version": 1, "body": kept}
        study.run(1, TrialState.PRUNED)


@pytest.mark.usefixtures("few_figures")
def test_words_that_an_earlier_version_or_a_program_stored_are_shown_below_ours(
    visitor: Visitor, study: GrowingStudy, user_study: optuna.Study
) -> None:
    words = f"{WORDS}\n" * 200  # longer than what optuna-dashboard stores in one piece
    optuna_dashboard.save_note(user_study, words)
    trial = user_study.trials[1]
    address = f"/api/studies/{study.study_id}/{trial._trial_id}/note"
    assert (
        visitor.send("PUT", address, {"version": 1, "body": f"above\n{MARK}\nmine"}).status == 200
    )
    for number in range(3):
        shown = visitor.open(study.study_id)
        ours, kept = note_of(shown)
        assert ours.startswith("## ")
        assert kept == words.strip()
        assert shown["trials"][1]["note"]["body"] == f"above\n{MARK}\nmine"
        assert optuna_dashboard.get_note(user_study) == shown["note"]["body"]
        study.run(1, TrialState.PRUNED)
        if number == 1:
            optuna_dashboard.save_note(user_study, words)


@pytest.mark.usefixtures("few_figures")
def test_a_saved_note_is_waited_for_before_canopy_writes(
    visitor: Visitor, study: GrowingStudy, database: Database
) -> None:
    shown = visitor.open(study.study_id)
    study.report(3, 2)
    with ThreadPoolExecutor(2) as pool, StudyStore(database).changing_attributes(study.study_id):
        saving = pool.submit(saved, visitor, study.study_id, shown, WORDS)
        opening = pool.submit(visitor.open, study.study_id)
        with pytest.raises(TimeoutError):
            saving.result(timeout=1)
        assert not opening.done()
    assert {saving.result(PATIENCE_S), opening.result(PATIENCE_S)["name"]} <= {200, 409, "planet"}
    words = visitor.open(study.study_id)["note"]["body"]
    assert words.count(MARK) == 1
    assert (WORDS in words) == (saving.result() == 200)


@pytest.mark.usefixtures("few_figures")
def test_a_search_does_not_read_notes_and_figures(
    visitor: Visitor, study: GrowingStudy, database: Database
) -> None:
    visitor.open(study.study_id)
    store = StudyStore(database)
    session = WorkerSession(database.url, study_id=study.study_id)
    session.register()
    queue = store.open_trial_queue(study.name, session)
    attributes = queue.replica.get_study_system_attrs(study.study_id)
    assert not [key for key in attributes if key.startswith("dashboard:")]
    session.close()
    read = StudyReader(store, study.name).read()
    assert [trial.state for trial in read.trials] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    store.close()


def test_a_study_of_plain_optuna_is_shown_and_nothing_is_written_into_it(
    visitor: Visitor, database: Database
) -> None:
    store = StudyStore(database)
    plain = make_plain_study(store)
    study_id = store.study_id(plain.study_name)
    before = stored(database)
    shown = visitor.open(study_id)
    assert [trial["state"] for trial in shown["trials"]] == [
        "Complete",
        "Pruned",
        "Fail",
        "Complete",
        "Running",
    ]
    assert shown["best_trials"][0]["number"] == 3
    assert shown["note"]["body"] == ""
    assert shown["plotly_graph_objects"] == []
    report = visitor.get(f"/canopy/studies/{study_id}")
    assert report.status == 200
    assert b"value 1.25" in report.body
    assert visitor.get(f"/canopy/studies/{study_id}/best.yaml").status == 404
    assert stored(database) == before
    store.close()


def test_a_database_that_can_only_be_read_is_shown(
    study: GrowingStudy, database: Database, tmp_path: Path
) -> None:
    url = database.url.update_query_dict({"options": "-c default_transaction_read_only=on"})
    reading = Workspace(tmp_path, url.render_as_string(hide_password=False)).open_existing()
    visitor = Visitor(Dashboard(reading, tmp_path / "uploads", lambda data: data.name))
    shown = visitor.open(study.study_id)
    assert len(shown["trials"]) == 4
    assert shown["note"]["body"] == ""
    assert visitor.get(f"/canopy/studies/{study.study_id}").status == 200
    reading.close()


def test_a_study_of_several_objectives_or_without_trials_is_shown(
    visitor: Visitor, database: Database
) -> None:
    store = StudyStore(database)
    several = optuna.create_study(
        storage=store.optuna_storage, study_name="several", directions=["minimize", "maximize"]
    )
    several.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), n_trials=2)
    optuna.create_study(storage=store.optuna_storage, study_name="empty")
    for name in ("several", "empty"):
        study_id = store.study_id(name)
        assert visitor.open(study_id)["name"] == name
        assert visitor.get(f"/canopy/studies/{study_id}").status == 200
    store.close()


def test_a_database_that_is_away_is_said_and_waited_for(
    visitor: Visitor, study: GrowingStudy, database: Database, postgres_url: str
) -> None:
    name = database.url.database
    other = sqlalchemy.create_engine(
        postgres_url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    with other.connect() as connection:
        connection.execute(sqlalchemy.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        connection.execute(
            sqlalchemy.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
            ),
            {"name": name},
        )
        replies = [
            visitor.get(path)
            for path in (f"/api/studies/{study.study_id}", f"/canopy/studies/{study.study_id}")
        ]
        connection.execute(sqlalchemy.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    for reply in replies:
        assert reply.status == 503
        assert reply.json()["reason"]
    assert visitor.study(study.study_id)["name"] == "planet"
