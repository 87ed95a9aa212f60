"""Which workers are there, and which trials nobody has, as one sees it who only reads."""

from collections.abc import Iterator
from contextlib import closing

import optuna
import pytest
import sqlalchemy

from canopy_search.storage.database import Database
from canopy_search.storage.schema.tables import TRIAL, WORKER
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers import registry as workers
from canopy_search.storage.workers.session import WorkerSession
from tests.databases import stored_trial_id


@pytest.fixture
def store(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[StudyStore]:
    monkeypatch.setattr(workers, "RECOVERY_S", 0.0)  # the server of the tests is young
    # So long that no pause of a busy machine looks like silence.
    monkeypatch.setattr(workers, "GONE_S", 1_000.0)
    monkeypatch.setattr(workers, "LEASE_S", 10_000.0)
    store = StudyStore(database)
    study = store.open_study("planet")
    for _ in range(3):
        study.ask()
    yield store
    store.close()


def lease(database: Database, store: StudyStore, number: int, worker: int) -> None:
    trial_id = stored_trial_id(store, "planet", number)
    with database.engine.begin() as connection:
        connection.execute(sqlalchemy.insert(TRIAL).values(trial_id=trial_id, worker=worker))


def grow_old(database: Database, seconds: float) -> None:
    past = sqlalchemy.text("UPDATE canopy_worker SET seen = now() - :age * interval '1 second'")
    with database.engine.begin() as connection:
        connection.execute(past, {"age": seconds})


def session(database: Database, store: StudyStore) -> WorkerSession:
    started = WorkerSession(database.url, study_id=store.study_id("planet"), beat_s=600.0)
    started.register()
    started.start()
    return started


def test_a_trial_is_left_behind_when_its_worker_is_gone(
    database: Database, store: StudyStore
) -> None:
    assert store.left_behind("planet") == {0, 1, 2}
    with closing(session(database, store)) as living:
        lease(database, store, 1, living.worker)
        assert store.left_behind("planet") == {0, 2}
        (found,) = store.workers("planet")
        assert (found.trial_number, found.is_living, found.end) == (1, True, None)
        # Its session lives, so it may only be slow.
        grow_old(database, workers.GONE_S + 1)
        assert store.left_behind("planet") == {0, 2}
        grow_old(database, workers.LEASE_S + 1)
        assert store.left_behind("planet") == {0, 1, 2}
        (found,) = store.workers("planet")
        assert (found.ended, found.is_living, found.end) == (None, False, "answers no more")
    (found,) = store.workers("planet")
    assert (found.is_living, found.end, found.trial_number) == (False, "left", None)


def test_a_worker_without_a_session_is_dead_before_anybody_says_so(
    database: Database, store: StudyStore
) -> None:
    gone = {"id": 7, "study_id": store.study_id("planet"), "host": "h", "pid": 1, "slot": "cpu"}
    with database.engine.begin() as connection:
        connection.execute(sqlalchemy.insert(WORKER).values(**gone))
    lease(database, store, 0, 7)
    grow_old(database, workers.GONE_S / 2)
    assert store.left_behind("planet") == {1, 2}
    assert store.workers("planet")[0].is_living
    grow_old(database, workers.GONE_S + 1)
    assert store.left_behind("planet") == {0, 1, 2}
    assert store.workers("planet")[0].end == "died"
    grow_old(database, -60.0)  # somebody set the clock back
    assert store.workers("planet")[0].end == "died"


def test_nobody_is_called_dead_when_the_server_has_just_started(
    database: Database, store: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "RECOVERY_S", 1e6)
    with closing(session(database, store)):
        grow_old(database, 1e5)
        assert store.workers("planet")[0].is_living


def test_a_trial_that_has_ended_is_not_left_behind(database: Database, store: StudyStore) -> None:
    optuna.load_study(storage=store.optuna_storage, study_name="planet").tell(0, 0.5)
    assert store.left_behind("planet") == {1, 2}


def test_who_only_reads_sees_what_is_new(store: StudyStore) -> None:
    replica = store.open_replica("planet")
    store.refresh(replica)
    assert len(replica.get_all_trials(replica.study_id)) == 3
    study = store.open_study("planet")
    study.tell(0, 0.5)
    study.ask()
    store.refresh(replica)
    found = replica.get_all_trials(replica.study_id)
    assert [trial.state.name for trial in found] == ["COMPLETE", "RUNNING", "RUNNING", "RUNNING"]
