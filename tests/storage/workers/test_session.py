"""A worker's presence: what others see of it, and what happens when it is cut off."""

import time
from collections.abc import Callable

import pytest
import sqlalchemy

from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.control import PAUSE, RUN
from canopy_search.storage.workers.registry import (
    LEFT,
    WorkerSummary,
    remove_dead_workers,
    suspects,
)
from canopy_search.storage.workers.session import WorkerSession, worker_session
from tests.storage.dying import die, fall_silent


@pytest.fixture
def store(database: Database) -> StudyStore:
    opened = StudyStore(database)
    opened.open_study("planet")
    opened.write_record("planet", {})
    return opened


def until(condition: Callable[[], object]) -> None:
    """Waits; pytest ends a test that hangs."""
    while not condition():
        time.sleep(0.02)


def start(database: Database, store: StudyStore, beat_s: float = 0.05) -> WorkerSession:
    study_id = store.study_id("planet")
    session = WorkerSession(database.url, study_id=study_id, slot="cuda:1", beat_s=beat_s)
    session.register()
    session.start()
    return session


def only(store: StudyStore) -> WorkerSummary:
    [worker] = store.workers("planet")
    return worker


def leave(session: WorkerSession, reason: str = LEFT) -> None:
    """Leaves without a beat under way, for which a busy machine may not have the time."""
    fall_silent(session)
    session.close(reason)


def reaped(database: Database, me: int = 0) -> list[int]:
    with database.engine.begin() as connection:
        return remove_dead_workers(connection, me)


def test_it_comes_says_what_it_does_and_leaves(database: Database, store: StudyStore) -> None:
    began_s = time.monotonic()
    session = start(database, store)
    assert only(store).slot == "cuda:1"
    assert only(store).is_connected
    assert only(store).progressed is None
    session.set_progress({"trial": 7})
    until(lambda: only(store).doing == {"trial": 7})
    assert only(store).progressed is not None
    assert 0 <= only(store).idle_s <= time.monotonic() - began_s
    leave(session, "told to leave")
    assert (only(store).end_reason, only(store).doing) == ("told to leave", None)
    assert only(store).ended is not None


def test_it_hears_what_a_person_wants(database: Database, store: StudyStore) -> None:
    session = start(database, store)
    assert session.wanted == RUN
    store.set_control("planet", PAUSE)
    until(lambda: session.wanted == PAUSE)
    leave(session)


def test_nobody_is_declared_dead_soon_after_the_server_has_started(
    database: Database, store: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("canopy_search.storage.workers.registry.GONE_S", 0.0)
    session = start(database, store)
    die(database, session)
    monkeypatch.setattr("canopy_search.storage.workers.registry.RECOVERY_S", 10**6)
    assert reaped(database) == []

    def suspected(me: int) -> set[int]:
        with database.engine.connect() as connection:
            return suspects(connection, me)

    until(lambda: suspected(0) == {session.worker})
    assert suspected(session.worker) == set()
    monkeypatch.setattr("canopy_search.storage.workers.registry.RECOVERY_S", 0.0)
    assert reaped(database) == [session.worker]
    assert only(store).end_reason == "died"


def test_who_says_nothing_for_long_is_passed_over_and_comes_back(
    database: Database, store: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("canopy_search.storage.workers.registry.RECOVERY_S", 0.0)
    session = start(database, store)
    assert reaped(database) == []
    fall_silent(session)
    monkeypatch.setattr("canopy_search.storage.workers.registry.LEASE_S", 0.0)
    assert reaped(database, session.worker) == [], "nobody declares itself dead"
    assert reaped(database) == [session.worker]
    assert only(store).end_reason == "answers no more"
    session._beat()
    assert only(store).ended is None
    session.close()


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_jumps_kills_nobody_for_long(
    database: Database, store: StudyStore, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    monkeypatch.setattr("canopy_search.storage.workers.registry.RECOVERY_S", 0.0)
    session = start(database, store)
    fall_silent(session)
    with database.engine.begin() as connection:  # as if the server's clock had been set
        jump = sqlalchemy.text("UPDATE canopy_worker SET seen = seen + :hours * interval '1 hour'")
        connection.execute(jump, {"hours": hours})
    session._beat()
    assert reaped(database) == []
    die(database, session)
    with database.engine.begin() as connection:
        connection.execute(jump, {"hours": hours})
    assert reaped(database) == [session.worker], "a sign from the future is none"


def test_a_connection_that_is_cut_is_made_anew(
    database: Database, store: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("canopy_search.storage.workers.session.RECOVERY_S", 10**6)
    session = start(database, store, beat_s=2.0)  # late is who says nothing for three beats
    assert not session.is_recovering
    cut = sqlalchemy.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name LIKE 'canopy worker%' AND datname = current_database()"
    )
    with database.engine.begin() as connection:
        assert connection.scalars(cut).all() == [True]
    until(lambda: session.is_recovering)
    until(lambda: only(store).is_connected)
    assert only(store).ended is None
    leave(session)


def test_what_left_long_ago_is_forgotten(database: Database, store: StudyStore) -> None:
    with worker_session(database.url, study_id=store.study_id("planet")) as session:
        pass
    with database.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("UPDATE canopy_worker SET ended = now() - interval '8 days'")
        )
    with worker_session(database.url, study_id=store.study_id("planet")) as other:
        assert [worker.id for worker in store.workers("planet")] == [other.worker]
    assert other.worker != session.worker
