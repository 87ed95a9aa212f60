"""The dashboard on real studies: what it adds, that it writes nothing, and what people write."""

import csv
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import pytest
import sqlalchemy
from optuna.trial import TrialState

from canopy_search.dashboards.optuna_dashboard.notes import MARK
from canopy_search.dashboards.optuna_dashboard.pages import Pages
from canopy_search.dashboards.optuna_dashboard.views import StudyViews
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from tests.dashboards.clearml.growing_study import GrowingStudy, val_ap
from tests.dashboards.optuna_dashboard.visitor import Visitor
from tests.integration.plain_optuna import make_plain_study

PATIENCE_S = 240.0
WORDS = "Raise the **rate** next time."


@contextmanager
def begun(database: Database, home: Path) -> Iterator[GrowingStudy]:
    grown = GrowingStudy(database, home, "planet", target=10)
    grown.run()
    grown.run(1, TrialState.PRUNED)
    grown.run(0, TrialState.FAIL)
    grown.report(grown.begin(), 1)
    yield grown
    grown.close()


@contextmanager
def visiting(database: Database, uploads: Path) -> Iterator[Visitor]:
    store = StudyStore(database)
    yield Visitor(Pages(StudyViews(store, database, uploads, lambda s, _: f"{s.name}".encode())))
    store.close()


@pytest.fixture
def study(database: Database, tmp_path: Path) -> Iterator[GrowingStudy]:
    """A complete, a pruned, a failed and a running trial, of ten that are wanted."""
    with begun(database, tmp_path / "home") as grown:
        yield grown


@pytest.fixture
def visitor(database: Database, tmp_path: Path) -> Iterator[Visitor]:
    """One who looks at the studies of `database`."""
    with visiting(database, tmp_path / "uploads") as visitor:
        yield visitor


@pytest.fixture(scope="module")
def shown_study(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GrowingStudy]:
    """As `study`, for tests that only look at it."""
    with begun(shared_database, tmp_path_factory.mktemp("home")) as grown:
        yield grown


@pytest.fixture(scope="module")
def onlooker(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Visitor]:
    """As `visitor`, for the same tests."""
    with visiting(shared_database, tmp_path_factory.mktemp("uploads")) as visitor:
        yield visitor


def stored(database: Database) -> dict[str, str]:
    """A digest of every table: who wrote anything is found out."""
    tables = sqlalchemy.inspect(database.engine).get_table_names()
    with database.engine.connect() as connection:
        return {
            name: str(
                connection.scalar(
                    sqlalchemy.text(
                        f"SELECT md5(coalesce(string_agg(t.xmin || t::text, '' ORDER BY t::text),"  # noqa: S608 - names of tables
                        f" '')) FROM {name} t"
                    )
                )
            )
            for name in tables
            if not name.startswith("canopy_worker")  # the worker lives, and says so
        }


def attributes(trial: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: each["value"] for each in trial["user_attrs"]}


def test_a_study_comes_with_notes_figures_files_and_attributes(
    onlooker: Visitor, shown_study: GrowingStudy
) -> None:
    shown = onlooker.study(shown_study.study_id)
    assert shown["note"]["body"].startswith("## ")
    assert "1 active worker" in shown["note"]["body"]
    notes = [trial["note"]["body"] for trial in shown["trials"]]
    assert notes[0].startswith("**Trial 0: ")
    assert "AP .6000**" in notes[0]
    assert "below the median" in notes[1]
    assert "ValueError: a bad day" in notes[2]
    assert notes[3].startswith("**Trial 3: ")
    assert "AP .4" in notes[3]
    assert shown["best_trials"][0]["note"]["body"] == notes[0]
    figures = [each["id"] for each in shown["plotly_graph_objects"]]
    assert figures[:3] == ["over-trials", "over-time", "curves"]
    assert {"labels", "timeline", "stage-tree"} <= set(figures)
    assert len(set(figures)) == len(figures)
    first = attributes(shown["trials"][0])
    assert {name: first[name] for name in ("state", "val_ap", "epochs_trained", "trained_s")} == {
        "state": "complete",
        "val_ap": "0.6",
        "epochs_trained": "3",
        "trained_s": "5.2",
    }
    assert attributes(shown["trials"][1])["reason"] == "below the median"
    sortable = {each["key"] for each in shown["union_user_attrs"] if each["sortable"]}
    assert {"val_ap", "epochs_trained", "epochs_replayed", "trained_s"} <= sortable


def test_what_a_search_does_is_seen_within_seconds(visitor: Visitor, study: GrowingStudy) -> None:
    assert len(visitor.study(study.study_id)["trials"]) == 4
    study.report(3, 2)
    number = study.run(1, TrialState.PRUNED)
    deadline = time.monotonic() + PATIENCE_S
    while len((shown := visitor.study(study.study_id))["trials"]) == 4:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert shown["trials"][number]["note"]["body"].startswith(f"**Trial {number}: pruned")
    assert attributes(shown["trials"][3])["val_ap"] == str(round(val_ap(3, 2), 4))
    later = visitor.get(f"/api/studies/{study.study_id}?after=4").json()
    assert [trial["number"] for trial in later["trials"]] == [number]


def test_nothing_is_written_for_it(
    onlooker: Visitor, shown_study: GrowingStudy, shared_database: Database
) -> None:
    before = stored(shared_database)
    shown = onlooker.study(shown_study.study_id)
    for artifact in shown["artifacts"]:
        address = f"/artifacts/{shown_study.study_id}/{artifact['artifact_id']}"
        assert onlooker.get(address).status == 200
    for address in (
        "/api/meta",
        "/api/studies",
        f"/api/studies/{shown_study.study_id}/param_importances",
        f"/api/studies/{shown_study.study_id}/plot/timeline",
        f"/csv/{shown_study.study_id}",
    ):
        assert onlooker.get(address).status in {200, 400}, address  # one trial has no importances
    assert stored(shared_database) == before


def test_files_are_made_when_they_are_opened(onlooker: Visitor, shown_study: GrowingStudy) -> None:
    shown = onlooker.study(shown_study.study_id)
    files = {}
    for owner, place in ((shown, ""), (shown["trials"][0], f"/{shown['trials'][0]['trial_id']}")):
        for each in owner["artifacts"]:
            address = f"/artifacts/{shown_study.study_id}{place}/{each['artifact_id']}"
            reply = onlooker.get(address)
            assert reply.status == 200
            assert reply.headers["content-type"].startswith(each["mimetype"])
            assert "access-control-allow-origin" not in reply.headers
            files[place, each["filename"]] = reply.body
            assert place or f"[{each['filename']}]({address})" in shown["note"]["body"]
    assert files["", "best.yaml"] == b"planet"
    assert files["", "report.html"].startswith(b"<!doctype html>")
    labels = list(csv.DictReader(io.StringIO(files["", "labels.csv"].decode())))
    assert {row["label"]: float(row["val_ap"]) for row in labels} == pytest.approx(
        {"clear": val_ap(0, 3), "road": val_ap(0, 3) / 2}
    )
    place = f"/{shown['trials'][0]['trial_id']}"
    assert files[place, "labels.csv"].splitlines()[1] == f"1,clear,{val_ap(0, 1)}".encode()


def test_people_upload_files_and_remove_only_those(
    visitor: Visitor, study: GrowingStudy, tmp_path: Path
) -> None:
    address = f"/api/artifacts/{study.study_id}"
    sent = {"file": "data:text/plain;base64,aGVsbG8=", "filename": "hello.txt"}
    uploaded = visitor.send("POST", address, sent)
    assert uploaded.status == 201
    file_id = uploaded.json()["artifact_id"]
    assert (tmp_path / "uploads" / file_id).read_bytes() == b"hello"
    assert visitor.get(f"/artifacts/{study.study_id}/{file_id}").body == b"hello"
    files = {f["filename"]: f["artifact_id"] for f in visitor.study(study.study_id)["artifacts"]}
    assert {"hello.txt", "best.yaml"} <= set(files)
    assert visitor.send("DELETE", f"{address}/{files['best.yaml']}").status == 404
    assert visitor.send("DELETE", f"{address}/{file_id}").status == 200
    files = {f["filename"]: f["artifact_id"] for f in visitor.study(study.study_id)["artifacts"]}
    assert "hello.txt" not in files
    assert "best.yaml" in files


@pytest.mark.parametrize("number", [None, 3])
def test_a_persons_words_are_kept_and_what_is_ours_goes_on(
    visitor: Visitor, study: GrowingStudy, database: Database, number: int | None
) -> None:
    shown = visitor.study(study.study_id)
    owner = shown if number is None else shown["trials"][number]
    place = "" if number is None else f"/{owner['trial_id']}"
    edited = {"version": owner["note"]["version"] + 1, "body": f"{owner['note']['body']}{WORDS}\n"}
    before = stored(database)
    study.report(3, 2)  # while the editor is open
    visitor.study(study.study_id)
    assert visitor.send("PUT", f"/api/studies/{study.study_id}{place}/note", edited).status == 200
    kept = {
        value
        for key, value in StudyStore(database)
        .optuna_storage.get_study_system_attrs(study.study_id)
        .items()
        if "note_str" in key
    }
    assert kept == {WORDS}
    changed = {name for name, digest in stored(database).items() if digest != before[name]}
    assert "study_system_attributes" in changed
    assert "trial_system_attributes" not in changed

    study.report(3, 3)
    study.end(3, TrialState.COMPLETE)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        shown = visitor.study(study.study_id)
        owner = shown if number is None else shown["trials"][number]
        ours, _, words = owner["note"]["body"].partition(MARK)
        assert words.strip() == WORDS
        if ("Trial 3: complete" if number else "(2 complete") in ours:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_who_saves_an_older_note_is_told_and_loses_nothing(
    visitor: Visitor, study: GrowingStudy
) -> None:
    address = f"/api/studies/{study.study_id}/note"
    assert visitor.send("PUT", address, {"version": 1, "body": WORDS}).status == 200
    refused = visitor.send("PUT", address, {"version": 1, "body": "mine"})
    assert refused.status == 409
    assert refused.json()["note"] == visitor.study(study.study_id)["note"]
    assert refused.json()["note"]["body"].strip().endswith(WORDS)
    for nonsense in ({"version": 2}, {"version": 2, "body": None}, [], None):
        assert visitor.send("PUT", address, nonsense).status >= 400
    assert visitor.study(study.study_id)["note"]["body"].strip().endswith(WORDS)


def test_a_note_that_a_program_wrote_is_shown_with_ours(
    visitor: Visitor, study: GrowingStudy, database: Database
) -> None:
    written = StudyStore(database).load_study("planet")
    optuna_dashboard.save_note(written, WORDS)
    shown = visitor.study(study.study_id)["note"]["body"]
    assert shown.startswith("## ")
    assert shown.strip().endswith(WORDS)
    assert optuna_dashboard.get_note(written) == WORDS


def test_a_study_of_plain_optuna_is_shown_as_it_grows(visitor: Visitor, database: Database) -> None:
    store = StudyStore(database)
    plain = make_plain_study(store)
    study_id = store.study_id(plain.study_name)
    shown = visitor.study(study_id)
    assert [trial["state"] for trial in shown["trials"]] == [
        "Complete",
        "Pruned",
        "Fail",
        "Complete",
        "Running",
    ]
    assert shown["best_trials"][0]["number"] == 3
    assert "value 1.25" in shown["note"]["body"]
    assert "<i>b</i>" not in shown["trials"][1]["note"]["body"]
    trial = optuna.trial.Trial(plain, shown["trials"][4]["trial_id"])
    trial.report(0.5, 8)
    deadline = time.monotonic() + PATIENCE_S
    while len(visitor.study(study_id)["trials"][4]["intermediate_values"]) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    store.close()


def test_a_study_of_several_objectives_or_without_trials_is_shown(
    visitor: Visitor, database: Database
) -> None:
    store = StudyStore(database)
    several = optuna.create_study(
        storage=store.optuna_storage, study_name="several", directions=["minimize", "maximize"]
    )
    several.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), n_trials=2)
    shown = visitor.study(store.study_id("several"))
    assert all(len(trial["values"]) == 2 for trial in shown["trials"])
    assert "2 objectives" in shown["note"]["body"]
    optuna.create_study(storage=store.optuna_storage, study_name="empty")
    empty = visitor.study(store.study_id("empty"))
    assert empty["note"]["body"].startswith("## ")
    assert empty["plotly_graph_objects"] == []
    store.close()


def test_a_study_is_not_renamed_and_one_that_is_deleted_is_gone(
    visitor: Visitor, study: GrowingStudy
) -> None:
    address = f"/api/studies/{study.study_id}"
    refused = visitor.send("POST", f"{address}/rename", {"study_name": "other"})
    assert refused.status == 400
    assert "epochs" in refused.json()["reason"]
    assert visitor.study(study.study_id)["name"] == "planet"
    searched = visitor.send("DELETE", address, {})
    assert searched.status == 409
    assert "canopy stop" in searched.json()["reason"]
    study.close()
    assert visitor.send("DELETE", address, {}).status == 200
    assert visitor.get(address).status == 404
    assert visitor.get("/api/studies").json() == {"study_summaries": []}


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
        reply = visitor.get(f"/api/studies/{study.study_id}")
        connection.execute(sqlalchemy.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    assert reply.status == 503
    assert reply.json()["reason"]
    assert visitor.study(study.study_id)["name"] == "planet"


def test_the_page_has_our_styles_and_script(onlooker: Visitor) -> None:
    page = onlooker.get("/dashboard/studies/1")
    assert page.status == 200
    for asset, kind in (("/canopy.css", "text/css"), ("/canopy.js", "text/javascript")):
        assert asset.encode() in page.body.partition(b"bundle.js")[0]
        reply = onlooker.get(asset)
        assert reply.headers["content-type"].startswith(kind)
        assert reply.body
