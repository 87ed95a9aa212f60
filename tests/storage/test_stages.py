from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy

from storage.database import Database
from storage.lease_keeper import LeaseKeeper
from storage.locks import worker_session
from storage.stages import Stage, StageStore
from storage.studies import StudyStore

Opener = Callable[..., StageStore]


@pytest.fixture
def worker(database: Database) -> Iterator[Opener]:
    """Opens the stages as one more living worker sees them."""
    with ExitStack() as sessions:

        def opened(**options: Any) -> StageStore:
            session = sessions.enter_context(worker_session(database.url))
            return StageStore(database, session.worker, **options)

        yield opened


def stage(key: str, epoch: int = 1, val_ap: float = 0.5) -> Stage:
    return Stage(key, epoch, {"epoch": epoch, "val_ap": val_ap})


def begin_trial(store: StudyStore, name: str = "planet") -> int:
    study = store.open_study(name)
    return store.trial_id(name, study.ask().number)


def test_what_is_recorded_is_known(worker: Opener) -> None:
    stages = worker()
    stages.record(stage("a"), None)
    stages.record(Stage("b", 2, None, "the loss is nan"), "a")

    known = stages.known(["a", "b", "c"])

    assert known == {"a": stage("a"), "b": Stage("b", 2, None, "the loss is nan")}
    assert stages.count() == 2


def test_the_first_record_stays_and_repetitions_are_counted(
    worker: Opener, database: Database
) -> None:
    worker().record(stage("a", val_ap=0.5), None)
    worker().record(stage("a", val_ap=0.6), None)

    assert worker().known(["a"])["a"].metrics == {"epoch": 1, "val_ap": 0.5}
    with database.engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT times_trained FROM canopy_stage")) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_cannot_hold_is_refused(
    worker: Opener, database: Database, value: float
) -> None:
    trial_id = begin_trial(StudyStore(database))
    with pytest.raises(ValueError, match="NaN or infinite"):
        worker().record(stage("a", val_ap=value), None, trial_id=trial_id)
    assert worker().count() == 0


def test_a_stage_names_the_trial_that_trained_it_first(worker: Opener, database: Database) -> None:
    store = StudyStore(database)
    first, second = begin_trial(store), begin_trial(store)
    worker().record(stage("a"), None, trial_id=first)
    worker().record(stage("a"), None, trial_id=second)

    found = worker().known(["a"])["a"]

    assert (found.study, found.trial_number) == ("planet", 0)
    # Each of them has trained the epoch.
    assert [len(epochs) for epochs in store.epochs("planet").values()] == [1, 1]
    assert store.epochs("planet")[1][0].stage == "a"


def test_stages_outlive_the_study(worker: Opener, database: Database) -> None:
    store = StudyStore(database)
    worker().record(stage("a"), None, trial_id=begin_trial(store))
    study_id = store.optuna_storage.get_study_id_from_name("planet")
    store.optuna_storage.delete_study(study_id)

    found = worker().known(["a"])["a"]

    assert found.metrics == stage("a").metrics
    assert found.trial_number is None


def test_replayed_epochs_are_told_from_trained_ones(worker: Opener, database: Database) -> None:
    store = StudyStore(database)
    trial_id = begin_trial(store)
    store.replay_epoch(trial_id, 1, {"val_ap": 0.5}, "a")
    worker().record(stage("b", 2), "a", trial_id=trial_id)
    store.replay_epoch(trial_id, 2, {"val_ap": 0.9}, "b")  # the trial has it already
    worker().record(stage("a", 1), None, trial_id=trial_id)  # its checkpoint was lost

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
    second.release_all()
    assert first.acquire("a")
    assert first.acquire("b")


def test_a_lease_moves_on_with_the_run(worker: Opener) -> None:
    first, second = worker(), worker()
    assert first.acquire("a")
    first.record(stage("a"), None, next_key="b")
    assert second.acquire("a")
    assert not second.acquire("b")


def test_a_lease_of_somebody_else_does_not_move(worker: Opener) -> None:
    first, second = worker(), worker()
    assert second.acquire("b")
    first.record(stage("a"), None, next_key="b")
    assert not first.acquire("b")
    assert second.acquire("b")


def test_a_dead_worker_has_no_lease(database: Database, worker: Opener) -> None:
    with worker_session(database.url) as session:
        assert StageStore(database, session.worker).acquire("a")
        assert not worker().acquire("a")
    assert worker().acquire("a")


def test_a_lease_that_nobody_renews_runs_out(worker: Opener) -> None:
    frozen, other = worker(lease_s=0.0), worker()
    assert frozen.acquire("a")
    assert other.acquire("a")


def test_a_lease_is_renewed_while_its_worker_works(worker: Opener, database: Database) -> None:
    holder = worker(lease_s=0.4)
    expires = sqlalchemy.text("SELECT expires FROM canopy_stage_lease")

    def wait_for_renewal() -> None:
        with database.engine.connect() as connection:
            before = connection.scalar(expires)
        for _ in range(100):
            with database.engine.connect() as connection:
                connection.execute(sqlalchemy.text("SELECT pg_sleep(.05)"))
                if connection.scalar(expires) > before:
                    return
        raise AssertionError("never renewed")

    with LeaseKeeper(holder):
        assert holder.acquire("a")
        wait_for_renewal()
        wait_for_renewal()


def test_forgotten_stages_are_unknown(worker: Opener) -> None:
    stages = worker()
    stages.record(stage("a"), None)
    stages.record(stage("b", 2), "a")
    stages.forget(["a"])
    assert set(stages.known(["a", "b"])) == {"b"}
