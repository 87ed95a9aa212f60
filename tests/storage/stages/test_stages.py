from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy

from canopy_search.storage.database import Database
from canopy_search.storage.stages.stages import Stage, StageStore
from canopy_search.storage.study.epochs import replaying
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.session import worker_session

Opener = Callable[..., StageStore]


@pytest.fixture
def worker(database: Database) -> Iterator[Opener]:
    """Opens the stages as one more living worker sees them."""
    with ExitStack() as sessions:

        def opened() -> StageStore:
            return StageStore(database, sessions.enter_context(worker_session(database.url)))

        yield opened


def stage(key: str, epoch: int = 1, val_ap: float = 0.5) -> Stage:
    return Stage(key, epoch, {"epoch": epoch, "val_ap": val_ap})


def record(stages: StageStore, stage: Stage, parent: str | None, **options: Any) -> None:
    stages.write([stages.recording(stage, parent, **options)])


def begin_trial(store: StudyStore, name: str = "planet") -> int:
    study = store.open_study(name)
    return study.ask()._trial_id


def test_what_is_recorded_is_known(worker: Opener) -> None:
    stages = worker()
    record(stages, stage("a"), None)
    record(stages, Stage("b", 2, None, "the loss is nan"), "a")

    known = stages.known(["a", "b", "c"])

    assert known == {"a": stage("a"), "b": Stage("b", 2, None, "the loss is nan")}
    assert stages.count() == 2


def test_the_first_record_stays_and_repetitions_are_counted(
    worker: Opener, database: Database
) -> None:
    record(worker(), stage("a", val_ap=0.5), None)
    record(worker(), stage("a", val_ap=0.6), None)

    assert worker().known(["a"])["a"].metrics == {"epoch": 1, "val_ap": 0.5}
    with database.engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT times_trained FROM canopy_stage")) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_cannot_hold_is_refused(
    worker: Opener, database: Database, value: float
) -> None:
    trial_id = begin_trial(StudyStore(database))
    with pytest.raises(ValueError, match="NaN or infinite"):
        record(worker(), stage("a", val_ap=value), None, trial_id=trial_id)
    assert worker().count() == 0


def test_a_stage_names_the_trial_that_trained_it_first(worker: Opener, database: Database) -> None:
    store = StudyStore(database)
    first, second = begin_trial(store), begin_trial(store)
    record(worker(), stage("a"), None, trial_id=first)
    record(worker(), stage("a"), None, trial_id=second)

    found = worker().known(["a"])["a"]

    assert (found.study, found.trial_number) == ("planet", 0)
    # Each of them has trained the epoch.
    assert [len(epochs) for epochs in store.epochs("planet").values()] == [1, 1]
    assert store.epochs("planet")[1][0].stage == "a"


def test_stages_outlive_the_study(worker: Opener, database: Database) -> None:
    store = StudyStore(database)
    record(worker(), stage("a"), None, trial_id=begin_trial(store))
    study_id = store.optuna_storage.get_study_id_from_name("planet")
    store.optuna_storage.delete_study(study_id)

    found = worker().known(["a"])["a"]

    assert found.metrics == stage("a").metrics
    assert found.trial_number is None


def test_replayed_epochs_are_told_from_trained_ones(worker: Opener, database: Database) -> None:
    store = StudyStore(database)
    trial_id = begin_trial(store)
    worker().write([replaying(trial_id, 1, {"val_ap": 0.5}, "a")])
    record(worker(), stage("b", 2), "a", trial_id=trial_id)
    worker().write([replaying(trial_id, 2, {"val_ap": 0.9}, "b")])  # the trial has it already
    record(worker(), stage("a", 1), None, trial_id=trial_id)  # its checkpoint was lost

    epochs = store.epochs("planet")[0]

    assert [(epoch.replayed, epoch.times_trained) for epoch in epochs] == [(True, 1), (False, 1)]
    assert epochs[1].metrics["val_ap"] == 0.5


def test_one_worker_at_a_time_has_a_lease(worker: Opener) -> None:
    first, second = worker(), worker()
    assert first.acquire("a")
    assert first.acquire("a"), "its own"
    assert not second.acquire("a")
    assert second.acquire("b")

    first.release("a")
    assert second.acquire("a")
    first.release("a")  # not its own any more
    assert not first.acquire("a")
    second.release()
    assert first.acquire("a")
    assert first.acquire("b")


def test_a_lease_moves_on_with_the_run(worker: Opener) -> None:
    first, second = worker(), worker()
    assert first.acquire("a")
    record(first, stage("a"), None, next_key="b")
    assert second.acquire("a")
    assert not second.acquire("b")


def test_a_lease_of_somebody_else_does_not_move(worker: Opener) -> None:
    first, second = worker(), worker()
    assert second.acquire("b")
    record(first, stage("a"), None, next_key="b")
    assert not first.acquire("b")
    assert second.acquire("b")


def test_a_worker_that_left_has_no_lease(database: Database, worker: Opener) -> None:
    with worker_session(database.url) as session:
        assert StageStore(database, session).acquire("a")
        assert not worker().acquire("a")
    assert worker().acquire("a")


def test_a_worker_that_was_declared_dead_has_no_lease(database: Database, worker: Opener) -> None:
    with worker_session(database.url) as session:
        holder, other = StageStore(database, session), worker()
        assert holder.acquire("a")
        with database.engine.begin() as connection:
            connection.execute(
                sqlalchemy.text("UPDATE canopy_worker SET ended = now() WHERE id = :worker"),
                {"worker": session.worker},
            )
        assert other.acquire("a")
        assert not holder.acquire("a")


def test_forgotten_stages_are_unknown(worker: Opener) -> None:
    stages = worker()
    record(stages, stage("a"), None)
    record(stages, stage("b", 2), "a")
    stages.forget(["a"])
    assert set(stages.known(["a", "b"])) == {"b"}


def test_a_lease_that_a_worker_has_is_not_written_again(worker: Opener, database: Database) -> None:
    stages, other = worker(), worker()
    version = sqlalchemy.text("SELECT xmin::text FROM canopy_stage_lease WHERE key = 'a'")

    def written_by() -> str | None:
        with database.engine.connect() as connection:
            return connection.scalar(version)

    assert stages.acquire("a")
    before = written_by()
    assert stages.acquire("a")
    assert not other.acquire("a")
    assert written_by() == before is not None
    record(stages, stage("a"), None, next_key="b")
    assert written_by() is None
    assert not other.acquire("b")
    stages.release()
    assert other.acquire("b")


def test_only_leases_do_not_wait_for_the_disk(worker: Opener, database: Database) -> None:
    stages = worker()
    with database.engine.connect() as connection:  # of the one connection that all use
        connection.execute(sqlalchemy.text("SET synchronous_commit = on"))
        connection.commit()
    stages.acquire("a")
    stages.release("a")
    stages.release()
    with database.engine.begin() as connection:
        assert connection.scalar(sqlalchemy.text("SHOW synchronous_commit")) == "on"
        stages.recording(stage("a"), None, next_key="b")(connection)
        assert connection.scalar(sqlalchemy.text("SHOW synchronous_commit")) == "on"
