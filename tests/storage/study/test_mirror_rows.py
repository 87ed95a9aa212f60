"""What was mirrored is kept for each server, and one mirror at a time works."""

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection

import pytest
import sqlalchemy

from canopy_search.storage.database import Database
from canopy_search.storage.study.mirror_rows import STUDY_TASK, MirroredTask, MirrorStore
from canopy_search.storage.study.studies import StudyStore

SERVER = "http://127.0.0.1:8008"


@pytest.fixture
def store(database: Database) -> MirrorStore:
    studies = StudyStore(database)
    studies.open_study("s")
    return MirrorStore(database, studies.study_id("s"), SERVER)


def test_what_was_sent_is_read_back(store: MirrorStore, database: Database) -> None:
    assert store.read_tasks() == {}
    row = MirroredTask(3, "id", "in_progress", 2, 4, lines_unsure=True, sent={"tags": ["a"]})
    store.write_task(row)
    store.write_task(MirroredTask(STUDY_TASK, "study"))
    row.state, row.epochs, row.problem = "completed", 5, "why"
    store.write_task(row)
    assert store.read_tasks() == {3: row, STUDY_TASK: MirroredTask(STUDY_TASK, "study")}
    elsewhere = MirrorStore(database, store.study_id, "http://elsewhere")
    assert elsewhere.read_tasks() == {}


def test_a_problem_keeps_its_beginning(store: MirrorStore) -> None:
    store.write_problem("away")
    since = store.read_state().since
    assert since is not None
    store.write_problem("away")
    assert store.read_state().since == since
    store.write_problem("refused")
    state = store.read_state()
    assert (state.problem, state.since is not None and state.since > since) == ("refused", True)
    store.write_state(web="http://web", api_version="2.31", project="p")
    store.write_problem(None)
    state = store.read_state()
    assert (state.problem, state.since, state.web) == (None, None, "http://web")


def test_the_mirror_that_was_used_last_comes_first(store: MirrorStore, database: Database) -> None:
    studies = StudyStore(database)
    assert studies.mirrors("s") == []
    other = MirrorStore(database, store.study_id, "http://other")
    for each in (store, other, store):
        each.write_state(project="p")
    store.write_task(MirroredTask(0, "id"))
    first, second = studies.mirrors("s")
    assert (first[0].server, second[0].server) == (SERVER, "http://other")
    assert (set(first[1]), set(second[1])) == ({0}, set())


def test_a_study_takes_what_was_mirrored_with_it(store: MirrorStore, database: Database) -> None:
    store.write_state(project="p")
    store.write_task(MirroredTask(0, "id"))
    delete = sqlalchemy.text("DELETE FROM studies")
    with database.engine.begin() as connection:
        for table in ("study_directions", "canopy_study"):
            connection.execute(sqlalchemy.text(f"DELETE FROM {table}"))  # noqa: S608 - our names
        connection.execute(delete)
    assert store.read_tasks() == {}
    assert store.read_state().project is None


def test_one_works_and_the_others_stand_by(store: MirrorStore, database: Database) -> None:
    other_server = MirrorStore(database, store.study_id, "http://other")
    with store.turn() as first, store.turn() as second, other_server.turn() as elsewhere:
        assert first()
        assert first(), "whoever works goes on"
        assert not second()
        assert elsewhere()
    with store.turn() as third:
        assert third()


def test_a_broken_connection_gives_the_turn_away(store: MirrorStore, database: Database) -> None:
    with store.turn() as first, store.turn() as second:
        assert first()
        _end_connections(database)
        with pytest.raises(sqlalchemy.exc.SQLAlchemyError):
            first()
        assert second()
        assert not first()


def test_a_mirror_that_is_killed_gives_its_turn_away(store: MirrorStore) -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(store, theirs), daemon=True)
    process.start()
    assert ours.recv()
    with store.turn() as has_turn:
        assert not has_turn()
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        while not has_turn():  # until the server sees that the process is gone
            time.sleep(0.01)
        assert has_turn()


def _hold(store: MirrorStore, connection: "Connection[bool, bool]") -> None:
    with store.turn() as has_turn:
        connection.send(has_turn())
        signal.pause()


def _end_connections(database: Database) -> None:
    statement = sqlalchemy.text(
        "SELECT pg_terminate_backend(pid, 240000) FROM pg_stat_activity "
        "WHERE application_name = 'canopy mirror' AND datname = current_database()"
    )
    with database.engine.connect() as connection:
        assert all(connection.scalars(statement))
