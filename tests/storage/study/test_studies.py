import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import optuna
import pytest
import sqlalchemy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from canopy_search.storage.database import Database
from canopy_search.storage.errors import StudyDirectionError, UnknownStudyError
from canopy_search.storage.study.epochs import add_trained
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.control import PAUSE, RUN, STOP_PRUNING
from canopy_search.storage.workspace import Workspace
from tests.databases import stored_trial_id

NUMBERS = itertools.count()


@pytest.fixture
def store(database: Database) -> Iterator[StudyStore]:
    opened = StudyStore(database)
    yield opened
    opened.close()


def begin_trial(store: StudyStore, name: str = "planet") -> int:
    trial = store.open_study(name).ask()
    return stored_trial_id(store, name, trial.number)


def add_epoch(store: StudyStore, trial_id: int, epoch: int, metrics: dict[str, Any]) -> None:
    with store.optuna_storage.engine.begin() as connection:
        add_trained(connection, trial_id, epoch, metrics)


class TestStudies:
    def test_open_begins_a_study_once(self, store: StudyStore) -> None:
        study = store.open_study("planet")
        study.add_trial(optuna.create_trial(value=0.5))
        again = store.open_study("planet")
        assert [trial.value for trial in again.trials] == [0.5]
        assert again.direction == optuna.study.StudyDirection.MAXIMIZE

    def test_sampler_and_pruner_are_used(self, store: StudyStore) -> None:
        sampler, pruner = optuna.samplers.RandomSampler(), optuna.pruners.NopPruner()
        for open_ in (store.open_study, store.load_study):
            study = open_("planet", sampler=sampler, pruner=pruner)
            assert (study.sampler, study.pruner) == (sampler, pruner)

    def test_names_are_sorted(self, store: StudyStore) -> None:
        assert store.names() == []
        for name in ("planet", "digits", "amazon"):
            store.open_study(name)
        assert store.names() == ["amazon", "digits", "planet"]

    @pytest.mark.parametrize("directions", [["minimize"], ["maximize", "maximize"]])
    def test_study_of_another_program(self, store: StudyStore, directions: list[str]) -> None:
        optuna.create_study(
            storage=store.optuna_storage, study_name="theirs", directions=directions
        )
        with pytest.raises(StudyDirectionError, match="'theirs' exists"):
            store.open_study("theirs")

    @pytest.mark.parametrize(
        "read",
        [
            lambda store: store.load_study("planat"),
            lambda store: store.epochs("planat"),
            lambda store: store.read_record("planat"),
            lambda store: store.write_record("planat", {}),
            lambda store: store.study_id("planat"),
            lambda store: store.launch("planat", 1, {}),
            lambda store: store.set_control("planat", RUN),
        ],
    )
    def test_unknown_study(self, store: StudyStore, read: Callable[[StudyStore], Any]) -> None:
        store.open_study("planet")
        with pytest.raises(UnknownStudyError, match="did you mean 'planet'") as caught:
            read(store)
        assert "canopy search --study planat" in str(caught.value)
        assert store.names() == ["planet"]


class TestRecords:
    def test_absent_until_written(self, store: StudyStore) -> None:
        store.open_study("planet")
        assert store.read_record("planet") is None
        assert store.write_record("planet", {"seed": 0}) == {"seed": 0}
        assert store.read_record("planet") == {"seed": 0}

    def test_order_and_types_are_kept(self, store: StudyStore) -> None:
        record = {"zeta": 1e16, "a": [None, True, -0.0, "ü\x00"], "nested": {"b": 1, "a": 1.0}}
        store.open_study("planet")
        store.write_record("planet", record)
        assert repr(store.read_record("planet")) == repr(record)

    def test_number_that_is_not(self, store: StudyStore) -> None:
        store.open_study("planet")
        with pytest.raises(ValueError, match="NaN or infinite"):
            store.write_record("planet", {"deep": [{"lr": math.nan}]})
        assert store.read_record("planet") is None

    def test_first_of_many_writers_wins(self, database: Database, store: StudyStore) -> None:
        store.open_study("planet")
        n_writers = 8
        barrier = Barrier(n_writers)

        def write(writer: int) -> dict[str, Any]:
            opened = Workspace(Path(), database.url.render_as_string(hide_password=False)).open()
            own = StudyStore(opened)
            barrier.wait()
            kept = own.write_record("planet", {"writer": writer})
            own.close()
            opened.close()
            return kept

        with ThreadPoolExecutor(n_writers) as pool:
            kept = list(pool.map(write, range(n_writers)))
        assert kept == n_writers * [store.read_record("planet")]


class TestEpochs:
    def test_in_order_by_trial_number(self, store: StudyStore) -> None:
        begin_trial(store, "other")
        first, second = begin_trial(store), begin_trial(store)
        for trial_id, epoch in ((second, 1), (first, 2), (first, 1)):
            add_epoch(store, trial_id, epoch, {"val_ap": epoch / 10, "trial": trial_id})
        epochs = store.epochs("planet")
        assert {number: [each.epoch for each in found] for number, found in epochs.items()} == {
            0: [1, 2],
            1: [1],
        }
        assert epochs[0][1].metrics == {"val_ap": 0.2, "trial": first}
        assert epochs[0][1].recorded.tzinfo is not None
        assert store.epochs("other") == {}

    def test_repeated_epoch_keeps_its_metrics(self, store: StudyStore) -> None:
        trial_id = begin_trial(store)
        for val_ap in (0.5, 0.6, 0.7):
            add_epoch(store, trial_id, 1, {"val_ap": val_ap})
        [epoch] = store.epochs("planet")[0]
        assert (epoch.metrics, epoch.times_trained) == ({"val_ap": 0.5}, 3)

    def test_deleting_a_study_deletes_all_of_it(
        self, database: Database, store: StudyStore
    ) -> None:
        add_epoch(store, begin_trial(store), 1, {"val_ap": 0.5})
        store.write_record("planet", {"seed": 0})
        optuna.delete_study(study_name="planet", storage=store.optuna_storage)
        with database.engine.connect() as connection:
            for table in ("canopy_epoch", "canopy_study"):
                count = sqlalchemy.text(f"SELECT count(*) FROM {table}")  # noqa: S608 - our names
                assert connection.scalar(count) == 0

    def test_epochs_are_one_query(self, database: Database, store: StudyStore) -> None:
        for _ in range(3):
            add_epoch(store, begin_trial(store), 1, {"val_ap": 0.5})
        statements: list[str] = []
        sqlalchemy.event.listen(
            database.engine, "before_cursor_execute", lambda *args: statements.append(args[2])
        )
        assert len(store.epochs("planet")) == 3
        assert len(statements) == 2, "and one for the study's id"


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
@example(values=[-0.0, 1e16, 5e-324, 1.7976931348623157e308])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_floats_come_back_as_they_were(store: StudyStore, values: list[float]) -> None:
    metrics = {f"metric {place}": value for place, value in enumerate(values)}
    name = f"study {next(NUMBERS)}"
    add_epoch(store, begin_trial(store, name), 1, metrics)
    [epoch] = store.epochs(name)[0]
    # Unlike equality, the text tells -0.0 from 0.0 and 1e16 from the integer.
    assert repr(epoch.metrics) == repr(metrics)


class TestControl:
    def test_a_launch_says_what_is_wanted(self, store: StudyStore) -> None:
        store.open_study("planet")
        store.write_record("planet", {})
        assert (store.target("planet"), store.launched("planet")) == (None, None)
        store.launch("planet", 40, {"trials": 40})
        assert (store.target("planet"), store.launched("planet")) == (40, {"trials": 40})

    def test_a_stopped_study_is_begun_again_and_one_that_pauses_is_not(
        self, store: StudyStore
    ) -> None:
        store.open_study("planet")
        store.write_record("planet", {})
        assert store.control("planet") == RUN
        assert store.set_control("planet", STOP_PRUNING) == RUN
        store.launch("planet", 40, {})
        assert store.control("planet") == RUN
        store.set_control("planet", PAUSE)
        store.launch("planet", 40, {})
        assert store.control("planet") == PAUSE


def test_optuna_survives_lost_connections(database: Database, store: StudyStore) -> None:
    study = store.open_study("planet")
    terminate = sqlalchemy.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database() "
        "AND backend_type = 'client backend'"
    )
    with database.engine.begin() as connection:
        assert all(connection.execute(terminate).scalars().all())
    study.tell(study.ask(), 0.5)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]


def test_few_connections(database: Database, store: StudyStore) -> None:
    count = sqlalchemy.text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND backend_type = 'client backend'"
    )
    study = store.open_study("planet")
    for _ in range(5):
        trial = study.ask()
        add_epoch(store, stored_trial_id(store, "planet", trial.number), 1, {"val_ap": 0.5})
        study.tell(trial, 0.5)
    with database.engine.connect() as connection:
        assert connection.scalar(count) <= 4
