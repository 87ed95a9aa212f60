import pytest
import sqlalchemy

from canopy_search.storage.database import Database
from canopy_search.storage.study.confirmations import AskedConfirmation, ConfirmationStore, scoring
from canopy_search.storage.study.studies import StudyStore
from tests.databases import stored_trial_id


@pytest.fixture
def store(database: Database) -> StudyStore:
    """Has the studies planet and planet/confirm."""
    store = StudyStore(database)
    for name in ("planet", "planet/confirm"):
        store.open_study(name)
    return store


def ask(database: Database, store: StudyStore, top: int, seeds: int) -> ConfirmationStore:
    confirmations = ConfirmationStore(database)
    ids = store.study_id("planet"), store.study_id("planet/confirm")
    confirmations.ask(*ids, top=top, seeds=seeds)
    return confirmations


def test_what_was_asked_for_last_is_known(database: Database, store: StudyStore) -> None:
    assert ConfirmationStore(database).asked("planet") is None
    for top, seeds in ((3, 2), (1, 5)):
        confirmations = ask(database, store, top, seeds)
    assert confirmations.asked("planet") == AskedConfirmation("planet/confirm", 1, 5)
    assert confirmations.asked("planet/confirm") is None
    assert [confirmations.confirms(name) for name in store.names()] == [False, True]
    assert not confirmations.confirms("no such study")


def test_the_first_scores_of_a_trial_stay(database: Database, store: StudyStore) -> None:
    number = store.load_study("planet/confirm").ask().number
    trial_id = stored_trial_id(store, "planet/confirm", number)
    for test_ap in (0.5, 0.6):
        with database.engine.begin() as connection:
            scoring(trial_id, {"test_ap": test_ap})(connection)
    confirmations = ConfirmationStore(database)
    assert confirmations.test_scores("planet/confirm") == {number: {"test_ap": 0.5}}
    assert confirmations.test_scores("planet") == {}
    with pytest.raises(ValueError, match="NaN"):
        scoring(trial_id, {"test_ap": float("nan")})


@pytest.mark.parametrize("deleted", ["planet", "planet/confirm"])
def test_a_confirmation_goes_with_either_study(
    database: Database, store: StudyStore, deleted: str
) -> None:
    confirmations = ask(database, store, 1, 2)
    values = {"name": deleted}
    with database.engine.begin() as connection:
        for table in ("study_directions", "studies"):
            connection.execute(
                sqlalchemy.text(
                    f"DELETE FROM {table} WHERE study_id IN "  # noqa: S608 - our names
                    "(SELECT study_id FROM studies WHERE study_name = :name)"
                ),
                values,
            )
    assert confirmations.asked("planet") is None
    assert not confirmations.confirms("planet/confirm")
