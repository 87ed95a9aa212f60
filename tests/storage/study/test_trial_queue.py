"""A study as one worker works on it, beside Optuna's own storage on the same tables."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import OperationalError

from canopy_search.storage.database import Database
from canopy_search.storage.errors import LeaseLostError, StudyGoneError
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.schema.tables import OPTUNA_REVISION
from canopy_search.storage.study import replica
from canopy_search.storage.study.replica import StudyReplica
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_changes import Lease, TrialChange, write_leased
from canopy_search.storage.study.trial_queue import TrialQueue
from canopy_search.storage.study.trial_rows import Position, read_changes, read_trials
from canopy_search.storage.workers.session import WorkerSession, worker_session
from canopy_search.storage.workspace import Workspace
from tests.storage.dying import die
from tests.storage.postgres.embedded_tools import ask

Hire = Callable[[], TrialQueue]


@pytest.fixture
def store(database: Database) -> Iterator[StudyStore]:
    opened = StudyStore(database)
    opened.open_study("planet")
    opened.write_record("planet", {})
    yield opened
    opened.close()


@pytest.fixture
def hire(database: Database, store: StudyStore) -> Iterator[Hire]:
    """Opens the study for one more worker."""
    with ExitStack() as stack:

        def hired() -> TrialQueue:
            study_id = store.study_id("planet")
            session = stack.enter_context(worker_session(database.url, study_id=study_id))
            return store.open_trial_queue("planet", session)

        yield hired


def study_of(trial_queue: TrialQueue) -> optuna.Study:
    return optuna.load_study(
        study_name="planet",
        storage=trial_queue.replica,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )


def begin(trial_queue: TrialQueue) -> tuple[optuna.trial.Trial, Lease]:
    with trial_queue.locked() as snapshot:
        trial = study_of(trial_queue).ask()
        trial.suggest_float("gamma", 0.8, 1.0, step=0.01)
        snapshot.taken = trial.number
    return trial, trial_queue.lease(trial._trial_id)


def take(trial_queue: TrialQueue, number: int) -> Lease:
    with trial_queue.locked() as snapshot:
        snapshot.taken = number
    trials = trial_queue.replica.get_all_trials(0, deepcopy=False)
    return trial_queue.lease(trials[number]._trial_id)


def write(trial_queue: TrialQueue, lease: Lease, **changes: Any) -> None:
    change = trial_queue.replica.drain(lease.trial_id)
    for name, value in changes.items():
        setattr(change, name, value)
    trial_queue.write(change, lease, lease.posted)
    lease.posted += 1


def by_optuna(store: StudyStore) -> list[FrozenTrial]:
    return store.load_study("planet").get_trials()


def test_the_tables_are_those_of_this_optuna(database: Database, store: StudyStore) -> None:
    assert store.optuna_storage.get_head_version() == OPTUNA_REVISION


def test_restored_trials_are_read_once(hire: Hire, store: StudyStore, database: Database) -> None:
    trial_queue = hire()
    begin(trial_queue)
    later = sqlalchemy.text("UPDATE canopy_trial SET changed = 2 ^ 60")  # of a busier server
    with database.engine.begin() as connection:
        connection.execute(later)
        position = Position(1, last_id=2**31 - 1)
        assert read_changes(connection, trial_queue.replica.study_id, position).trial_ids == []
    _, lease = begin(trial_queue)
    with database.engine.begin() as connection:
        changes = read_changes(connection, trial_queue.replica.study_id, position)
    assert changes.trial_ids == [lease.trial_id]


def test_everything_is_read_again_from_another_server(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    with closing(Workspace(tmp_path).open()) as database:
        store = StudyStore(database)
        study = store.open_study("planet")
        for _ in range(3):
            study.ask()
        replica = store.open_replica("planet")
        store.refresh(replica)
        server.stop()
        server.start()
        # As in a backup: no transaction that the replica has not seen.
        ask(server, "UPDATE trials SET state = 'FAIL' WHERE number = 1")
        ask(server, "DELETE FROM trials WHERE number = 2")
        store.refresh(replica)
        store.close()
    states = [trial.state for trial in replica.get_all_trials(0, deepcopy=False)]
    assert states == [TrialState.RUNNING, TrialState.FAIL]


def test_optuna_reads_what_a_worker_writes(hire: Hire, store: StudyStore) -> None:
    trial_queue = hire()
    trial, lease = begin(trial_queue)
    trial.suggest_categorical("loss", ["bce", None, 1.5, True])
    trial.set_user_attr("reason", "because")
    trial_queue.replica.set_trial_system_attr(lease.trial_id, "canopy:stages", ["a", "b"])
    for epoch, val_ap in enumerate((0.5, 5e-324, 0.1 + 0.2), start=1):
        trial.report(val_ap, epoch)
    write(trial_queue, lease)
    assert [t.state for t in by_optuna(store)] == [TrialState.RUNNING]
    study_of(trial_queue).tell(trial, 0.25)
    write(trial_queue, lease)

    [theirs] = by_optuna(store)
    [ours] = trial_queue.replica.get_all_trials(0, deepcopy=False)
    for name in (
        "number", "state", "values", "params", "distributions", "user_attrs", "system_attrs",
    ):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name), name
    assert repr(ours.intermediate_values) == repr(theirs.intermediate_values)
    assert theirs.datetime_start is not None
    assert theirs.datetime_complete is not None
    for mine, other in (
        (ours.datetime_start, theirs.datetime_start),
        (ours.datetime_complete, theirs.datetime_complete),
    ):
        assert mine == other


def test_a_worker_reads_what_optuna_writes(hire: Hire, store: StudyStore) -> None:
    trial_queue = hire()
    study = store.load_study("planet")
    study.enqueue_trial({"gamma": 0.9}, user_attrs={"enqueued": "x"})
    distributions = {
        "gamma": FloatDistribution(0.8, 1.0),
        "loss": CategoricalDistribution(("bce", "focal")),
    }
    study.add_trial(
        optuna.trial.create_trial(
            params={"gamma": 0.85, "loss": "focal"},
            distributions=distributions,
            value=0.75,
            intermediate_values={1: 0.5, 2: float("nan"), 3: 0.75},
        )
    )
    trial_queue.refresh()
    assert repr(trial_queue.replica.get_all_trials(0)) == repr(by_optuna(store))
    other = store.load_study("planet").ask()  # starts the one that waits
    other.suggest_float("gamma", 0.8, 1.0)
    study.tell(other, 0.5)
    with trial_queue.locked():
        pass
    assert repr(trial_queue.replica.get_all_trials(0)) == repr(by_optuna(store))


def test_workers_see_each_other_s_trials(hire: Hire) -> None:
    first, second = hire(), hire()
    trial, lease = begin(first)
    other, _ = begin(second)
    assert (trial.number, other.number) == (0, 1)
    trial.report(0.5, 1)
    write(first, lease)
    second.refresh()
    seen = second.replica.get_all_trials(0)
    assert seen[0].params == trial.params
    assert seen[0].intermediate_values == {1: 0.5}
    # Its own trial a worker knows better than the database.
    other.report(0.25, 1)
    second.refresh()
    assert second.replica.get_all_trials(0)[1].intermediate_values == {1: 0.25}


def test_what_is_decided_is_written_whole_or_not_at_all(hire: Hire, store: StudyStore) -> None:
    trial_queue = hire()
    with pytest.raises(ZeroDivisionError), trial_queue.locked():
        _ = study_of(trial_queue).ask().number / 0
    assert by_optuna(store) == []
    trial, _ = begin(trial_queue)
    assert trial.number == 0
    assert len(by_optuna(store)) == 1


def test_who_does_not_hear_of_a_commit_finds_the_trial_as_its_own(
    hire: Hire, store: StudyStore, database: Database
) -> None:
    trial_queue = hire()
    lost = [True]

    def lose(connection: sqlalchemy.Connection) -> None:
        if lost.pop() if lost else False:
            connection.connection.dbapi_connection.commit()
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    sqlalchemy.event.listen(database.engine, "commit", lose)
    with pytest.raises(OperationalError):
        begin(trial_queue)
    sqlalchemy.event.remove(database.engine, "commit", lose)
    with trial_queue.locked() as snapshot:
        assert snapshot.mine == {0}
        assert snapshot.owned == set()
    assert len(by_optuna(store)) == 1


def test_a_change_is_written_once_however_often_it_is_sent(hire: Hire, store: StudyStore) -> None:
    trial_queue = hire()
    trial, lease = begin(trial_queue)
    counted: list[int] = []
    change = TrialChange(lease.trial_id, reports={1: 0.5}, besides=[lambda _: counted.append(1)])
    for _ in range(3):
        trial_queue.write(change, lease, 0)
    assert counted == [1]
    end = TrialChange(lease.trial_id, state=TrialState.COMPLETE, value=0.5)
    for _ in range(3):
        trial_queue.write(end, lease, 1)
    assert by_optuna(store)[0].value == 0.5
    assert trial.number == 0


def test_who_lost_its_lease_writes_nothing(hire: Hire, store: StudyStore) -> None:
    first, second = hire(), hire()
    trial, lease = begin(first)
    trial.report(0.5, 1)
    late = first.replica.drain(lease.trial_id)
    newer = take(second, 0)
    assert newer.token == lease.token + 1
    with pytest.raises(LeaseLostError, match="trial 0 "):
        first.write(late, lease, 0)
    assert by_optuna(store)[0].intermediate_values == {}
    second.write(TrialChange(newer.trial_id, reports={1: 0.25}), newer, 0)
    assert by_optuna(store)[0].intermediate_values == {1: 0.25}


def test_a_trial_that_somebody_ended_is_lost(hire: Hire, store: StudyStore) -> None:
    trial_queue = hire()
    _, lease = begin(trial_queue)
    store.load_study("planet").tell(0, state=TrialState.FAIL)
    with pytest.raises(LeaseLostError):
        trial_queue.write(
            TrialChange(lease.trial_id, state=TrialState.COMPLETE, value=1.0), lease, 0
        )
    assert by_optuna(store)[0].state == TrialState.FAIL
    assert by_optuna(store)[0].value is None


def test_what_leaves_a_lease(hire: Hire, store: StudyStore, database: Database) -> None:
    trial_queue = hire()
    _, lease = begin(trial_queue)
    with trial_queue.locked() as snapshot:
        assert snapshot.mine == {0}
    write(trial_queue, lease, releases=True)
    trial_queue.give_back(lease.trial_id)
    with trial_queue.locked() as snapshot:
        assert snapshot.leased == {}
    with worker_session(database.url, study_id=store.study_id("planet")) as session:
        leaving = store.open_trial_queue("planet", session)
        take(leaving, 0)
        with trial_queue.locked() as snapshot:
            assert snapshot.owned == {0}
    with trial_queue.locked() as snapshot:
        assert snapshot.leased == {}


def test_a_dead_worker_s_trial_is_nobody_s_and_the_death_is_counted(
    hire: Hire, database: Database, store: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("canopy_search.storage.workers.registry.GONE_S", 0.0)
    monkeypatch.setattr("canopy_search.storage.workers.registry.RECOVERY_S", 10**6)
    trial_queue = hire()
    session = WorkerSession(database.url, study_id=store.study_id("planet"))
    session.register()
    session.start()
    begin(store.open_trial_queue("planet", session))
    with trial_queue.locked() as snapshot:
        assert snapshot.owned == {0}
        assert snapshot.suspected == set()
    die(database, session)
    with trial_queue.locked() as snapshot:
        assert snapshot.suspected == {0}, "the server was started a moment ago"
    monkeypatch.setattr("canopy_search.storage.workers.registry.RECOVERY_S", 0.0)
    with trial_queue.locked() as snapshot:
        assert (snapshot.leased, snapshot.deaths) == ({}, {0: 1})
        assert snapshot.died_at == {0: {session.place: 1}}
        assert snapshot.places == {session.place}
    lease = take(trial_queue, 0)
    write(trial_queue, lease, reports={1: 0.5})
    with trial_queue.locked() as snapshot:
        assert snapshot.deaths == {}


def test_a_worker_that_ends_with_an_error_releases_its_trial_and_that_is_a_death(
    hire: Hire, database: Database, store: StudyStore
) -> None:
    trial_queue = hire()
    session = WorkerSession(database.url, study_id=store.study_id("planet"), slot="cuda:1")
    session.register()
    session.start()
    _, lease = begin(failing := store.open_trial_queue("planet", session))
    write(failing, lease, reports={1: 0.5})
    write(failing, lease, releases=True, is_death=True)
    with trial_queue.locked() as snapshot:
        assert (snapshot.leased, snapshot.deaths) == ({}, {0: 1})
    session.close("the accelerator failed", died_on=0)
    with trial_queue.locked() as snapshot:
        assert snapshot.died_at == {0: {session.place: 1}}
        assert snapshot.places == {session.place, trial_queue.session.place}


def test_a_study_that_was_deleted(hire: Hire, store: StudyStore) -> None:
    trial_queue = hire()
    begin(trial_queue)
    optuna.delete_study(study_name="planet", storage=store.optuna_storage)
    with pytest.raises(StudyGoneError, match="'planet'"), trial_queue.locked():
        pass


def test_outcomes_count_from_the_last_launch(hire: Hire, store: StudyStore) -> None:
    trial_queue = hire()
    for state in (TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL):
        _, lease = begin(trial_queue)
        write(trial_queue, lease, state=state, value=0.5 if state == TrialState.COMPLETE else None)
        trial_queue.give_back(lease.trial_id)
    with trial_queue.locked() as snapshot:
        assert snapshot.outcomes == [
            (2, TrialState.FAIL),
            (1, TrialState.COMPLETE),
            (0, TrialState.FAIL),
        ]
    store.launch("planet", 40, {})
    with trial_queue.locked() as snapshot:
        assert (snapshot.outcomes, snapshot.target) == ([], 40)


def test_of_what_did_not_fail_the_last_outcome_is_enough(hire: Hire) -> None:
    trial_queue = hire()
    for letter in "ccfccff":
        _, lease = begin(trial_queue)
        state = TrialState.FAIL if letter == "f" else TrialState.COMPLETE
        write(trial_queue, lease, state=state, value=0.5 if letter == "c" else None)
        trial_queue.give_back(lease.trial_id)
    begin(trial_queue)
    with trial_queue.locked() as snapshot:
        assert [state.name[0] for _, state in snapshot.outcomes] == ["F", "F", "C", "F"]


def test_a_trial_that_ends_while_others_are_read_is_looked_for_once_more(
    hire: Hire, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading all trials anew, while the study is locked, would hold up everybody."""
    first, second = hire(), hire()
    trial, lease = begin(first)
    second.refresh()
    trial.report(0.5, 1)
    write(first, lease)
    reloads: list[StudyReplica] = []

    class Counting(StudyReplica):
        def _reload(self, connection: sqlalchemy.Connection) -> None:
            reloads.append(self)
            super()._reload(connection)

    second.replica.__class__ = Counting

    def end_and_read(*arguments: Any) -> list[FrozenTrial]:
        monkeypatch.undo()
        change = TrialChange(lease.trial_id, state=TrialState.COMPLETE, value=0.5)
        engine = sqlalchemy.create_engine(database.url, poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            write_leased(connection, change, lease, lease.posted)
        return read_trials(*arguments)

    monkeypatch.setattr(replica, "read_trials", end_and_read)
    with second.locked():
        pass
    assert not reloads
    [seen] = second.replica.get_all_trials(0)
    assert (seen.state, seen.value) == (TrialState.COMPLETE, 0.5)


def test_a_worker_has_two_connections(hire: Hire, database: Database) -> None:
    trial_queue = hire()
    _, lease = begin(trial_queue)
    write(trial_queue, lease, reports={1: 0.5})
    trial_queue.refresh()
    other = sqlalchemy.create_engine(database.url, poolclass=sqlalchemy.NullPool)
    with other.connect() as connection:
        count = sqlalchemy.text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND application_name LIKE 'canopy worker%'"
        )
        assert connection.scalar(count) == 1
    assert database.engine.pool.size() == 1
