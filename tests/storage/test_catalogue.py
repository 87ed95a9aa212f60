"""Studies as things: what is removed, renamed and copied with one, and what stays."""

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.storages._rdb.models import BaseModel
from optuna.trial import FrozenTrial
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError

from canopy_search.storage.catalogue import Belongings, StudyCatalogue
from canopy_search.storage.database import Database
from canopy_search.storage.errors import (
    StudyArchivedError,
    StudyBusyError,
    StudyExistsError,
    UnknownStudyError,
)
from canopy_search.storage.schema.tables import (
    PREDICTION,
    STAGE,
    TRIAL,
    TRIALS,
    VALIDATION,
    WORKER,
)
from canopy_search.storage.study.confirmations import ConfirmationStore
from canopy_search.storage.study.epochs import add_trained
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.control import ARCHIVED, PAUSE, RUN
from canopy_search.storage.workers.session import worker_session
from canopy_search.storage.workspace import Workspace
from tests.databases import Databases, within
from tests.shared_servers import execute

RECORD = {"config": {"search": {"study": "planet"}}, "space": {}}


@pytest.fixture
def store(database: Database) -> Iterator[StudyStore]:
    opened = StudyStore(database)
    yield opened
    opened.close()


@pytest.fixture
def catalogue(database: Database) -> StudyCatalogue:
    return StudyCatalogue(database)


@pytest.fixture
def elsewhere(databases: Databases, postgres_url: str, tmp_path: Path) -> Iterator[Database]:
    """Another database of the same server."""
    name = databases.take()
    opened = Workspace(tmp_path / "elsewhere", within(postgres_url, name)).open()
    yield opened
    opened.close()
    databases.give_back(name)


def make_study(database: Database, store: StudyStore, name: str, stages: list[str]) -> None:
    """A study of one complete trial, whose epochs are `stages`, and of one that runs."""
    study = store.open_study(name)
    store.write_record(name, RECORD)
    trial = study.ask({"gamma": optuna.distributions.FloatDistribution(0.8, 1.0)})
    trial.set_user_attr("note", "mine")
    trial_id = trial._trial_id
    for epoch, key in enumerate(stages, 1):
        trial.report(0.1 * epoch, epoch)
        metrics = {"val_ap": 0.1 * epoch, "train_s": 2.0, "val_s": 1.0}
        with database.engine.begin() as connection:
            add_trained(connection, trial_id, epoch, metrics, key)
            for table, values in (
                (STAGE, {"key": key, "epoch": epoch, "trial_id": trial_id}),
                (VALIDATION, {"digest": "set", "labels": [], "images": 0, "targets": b""}),
                (PREDICTION, {"key": key, "validation": "set", "logits": b"logits"}),
            ):
                connection.execute(insert(table).values(values).on_conflict_do_nothing())
    study.tell(trial, 0.1 * len(stages))
    study.ask()
    execute(
        database.url,
        "INSERT INTO canopy_trial (trial_id, worker, changed) SELECT trial_id, 7, 99 FROM trials "
        "ON CONFLICT DO NOTHING",
    )


def keys(database: Database, table: sqlalchemy.Table = STAGE) -> list[str]:
    with database.engine.connect() as connection:
        return list(connection.scalars(sqlalchemy.select(table.c.key).order_by(table.c.key)))


def shown(trials: list[FrozenTrial]) -> list[tuple[object, ...]]:
    """All of a trial but its id in the database."""
    return [
        (
            t.number,
            t.state,
            t.params,
            t.values,
            t.intermediate_values,
            t.user_attrs,
            t.distributions,
        )
        for t in trials
    ]


def test_a_study_is_removed_with_what_it_alone_has(
    database: Database, store: StudyStore, catalogue: StudyCatalogue
) -> None:
    make_study(database, store, "planet", ["shared", "own"])
    make_study(database, store, "other", ["shared"])
    before = shown(store.trials("other"))
    belongings = catalogue.belongings("planet")
    assert belongings == Belongings(("planet",), 2, ("own",))

    catalogue.remove(belongings)

    assert store.names() == ["other"]
    assert keys(database) == keys(database, PREDICTION) == ["shared"]
    assert shown(store.trials("other")) == before
    with database.engine.connect() as connection:
        left = set(connection.scalars(sqlalchemy.select(TRIALS.c.trial_id)))
        for table in BaseModel.metadata.tables.values():
            if "trial_id" in table.c:
                assert set(connection.scalars(sqlalchemy.select(table.c.trial_id))) <= left
    catalogue.remove(catalogue.belongings("other"))
    assert keys(database) == []
    assert execute(database.url, "SELECT count(*) FROM canopy_validation") == [(0,)]


def test_a_stage_that_is_being_trained_stays(
    database: Database, store: StudyStore, catalogue: StudyCatalogue
) -> None:
    make_study(database, store, "planet", ["a", "b"])
    execute(database.url, "INSERT INTO canopy_stage_lease VALUES ('b', 7)")
    assert catalogue.belongings("planet").stages == ("a",)


def test_the_confirmation_goes_along(
    database: Database, store: StudyStore, catalogue: StudyCatalogue
) -> None:
    make_study(database, store, "planet", ["a"])
    make_study(database, store, "planet-confirmed", ["b"])
    ids = [store.study_id(name) for name in ("planet", "planet-confirmed")]
    ConfirmationStore(database).ask(*ids, top=1, seeds=5)
    belongings = catalogue.belongings("planet")
    assert belongings.studies == ("planet", "planet-confirmed")
    assert sorted(belongings.stages) == ["a", "b"]
    assert catalogue.archive("planet") == ["a"]  # the confirmation is not archived
    catalogue.remove(belongings)
    assert store.names() == []


def test_a_study_that_is_searched_is_not_changed(
    database: Database, store: StudyStore, catalogue: StudyCatalogue
) -> None:
    make_study(database, store, "planet", ["a"])
    belongings = catalogue.belongings("planet")
    with worker_session(database.url, study_id=store.study_id("planet")):
        for change in (
            lambda: catalogue.belongings("planet"),
            lambda: catalogue.remove(belongings),
            lambda: catalogue.rename("planet", "new"),
            lambda: catalogue.archive("planet"),
            lambda: catalogue.copy("planet", "new", database),
        ):
            with pytest.raises(StudyBusyError, match="canopy stop"):
                change()
    assert store.names() == ["planet"]
    assert store.control("planet") == RUN


def test_no_worker_joins_a_study_while_it_is_removed(
    database: Database, store: StudyStore, catalogue: StudyCatalogue
) -> None:
    make_study(database, store, "planet", ["a"])
    hurried = {"options": "-c lock_timeout=50"}
    engine = sqlalchemy.create_engine(database.url, connect_args=hurried)
    joining = sqlalchemy.insert(WORKER).values(
        id=1, study_id=store.study_id("planet"), host="here", pid=1, slot="cpu"
    )
    with (
        catalogue._locked("planet"),
        pytest.raises(OperationalError, match="lock timeout"),
        engine.begin() as connection,
    ):
        connection.execute(joining)
    engine.dispose()


def test_renaming_keeps_everything(
    database: Database, store: StudyStore, catalogue: StudyCatalogue
) -> None:
    make_study(database, store, "planet", ["a"])
    make_study(database, store, "other", ["b"])
    before = shown(store.trials("planet"))
    with pytest.raises(StudyExistsError, match="other"):
        catalogue.rename("planet", "other")
    with pytest.raises(UnknownStudyError, match="did you mean 'planet'"):
        catalogue.rename("planett", "new")
    catalogue.rename("planet", "new")
    assert store.names() == ["new", "other"]
    assert shown(store.trials("new")) == before


def test_a_copy_is_a_study_of_its_own(
    database: Database, store: StudyStore, catalogue: StudyCatalogue
) -> None:
    make_study(database, store, "planet", ["a", "b"])
    with pytest.raises(StudyExistsError, match="planet"):
        catalogue.copy("planet", "planet", database)
    catalogue.copy("planet", "copy", database)
    assert shown(store.trials("copy")) == shown(store.trials("planet"))
    assert store.epochs("copy") == store.epochs("planet")
    assert store.read_record("copy") == RECORD
    leases = sqlalchemy.select(TRIAL.c.worker, TRIAL.c.changed).join(TRIALS)
    leases = leases.where(TRIALS.c.study_id == store.study_id("copy"))
    with database.engine.connect() as connection:
        assert connection.execute(leases).all() == [(None, 0), (None, 0)]
    # Both refer to all stages, so removing one takes none.
    assert catalogue.belongings("copy").stages == ()
    catalogue.remove(catalogue.belongings("copy"))
    assert len(store.trials("planet")) == 2


def test_another_database_gets_the_stages_too(
    database: Database, store: StudyStore, catalogue: StudyCatalogue, elsewhere: Database
) -> None:
    there = StudyStore(elsewhere)
    there.open_study("in the way").ask()  # ids differ there
    make_study(database, store, "other", ["c"])
    make_study(database, store, "planet", ["a", "b"])
    catalogue.copy("planet", "copy", elsewhere)
    assert shown(there.trials("copy")) == shown(store.trials("planet"))
    assert there.epochs("copy") == store.epochs("planet")
    assert keys(elsewhere) == keys(elsewhere, PREDICTION) == ["a", "b"]
    owners = execute(elsewhere.url, "SELECT number FROM canopy_stage JOIN trials USING (trial_id)")
    assert owners == [(0,), (0,)]
    assert there.open_study("copy").ask().number == 2  # Optuna numbers on behind what was copied
    there.close()


def test_an_archived_study_is_left_as_it_is(
    database: Database, store: StudyStore, catalogue: StudyCatalogue
) -> None:
    make_study(database, store, "planet", ["a"])
    catalogue.archive("planet")
    assert store.control("planet") == ARCHIVED
    with pytest.raises(StudyArchivedError, match="canopy studies archive --undo planet"):
        store.launch("planet", 4, {})
    with pytest.raises(StudyArchivedError):
        store.set_control("planet", PAUSE)
    catalogue.restore("planet")
    store.set_control("planet", PAUSE)
    catalogue.restore("planet")
    assert store.control("planet") == PAUSE


def test_what_each_study_takes(
    database: Database, store: StudyStore, catalogue: StudyCatalogue
) -> None:
    make_study(database, store, "planet", ["a", "b"])
    make_study(database, store, "other", ["a"])
    store.open_study("plain").ask()
    execute(
        database.url,
        "INSERT INTO canopy_checkpoint (place, key, size, is_end) VALUES ('here', 'a', 100, false)",
    )
    usage = {each.name: each for each in catalogue.usage()}
    assert list(usage) == ["other", "plain", "planet"]
    assert [each.trained_s for each in usage.values()] == [3.0, 0.0, 6.0]
    logits = len("logits")
    assert [each.stored_bytes for each in usage.values()] == [100 + logits, 0, 100 + 2 * logits]
    assert usage["planet"].owner
    assert usage["plain"].owner is usage["plain"].changed is None
