import numpy as np
import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from canopy_search.storage.database import Database
from canopy_search.storage.study.epochs import add_trained, replaying
from canopy_search.storage.study.predictions import (
    ValidationSet,
    forget_predictions,
    predicting,
    trial_predictions,
)
from canopy_search.storage.study.studies import StudyStore

TARGETS = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0]], dtype=np.uint8)
IMAGES = ValidationSet("some images", ("cloudy", "haze", "road"), TARGETS)


def logits(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=TARGETS.shape).astype(np.float32)


@pytest.fixture
def trials(database: Database) -> list[int]:
    """The database's ids of trials 0 and 1 of study planet."""
    store = StudyStore(database)
    study = store.open_study("planet")
    return [study.ask()._trial_id for _ in range(2)]


def train(database: Database, trial_id: int, epoch: int, key: str, seed: int) -> None:
    with database.engine.begin() as connection:
        add_trained(connection, trial_id, epoch, {"val_ap": 0.5}, key)
        predicting(key, IMAGES, logits(seed))(connection)


def test_a_trial_s_predictions_are_those_of_its_last_epoch(
    database: Database, trials: list[int]
) -> None:
    train(database, trials[0], 1, "a", 1)
    train(database, trials[0], 2, "b", 2)
    with database.engine.begin() as connection:
        replaying(trials[1], 1, {"val_ap": 0.5}, "a")(connection)

    found = trial_predictions(database, "planet", [0, 1, 7])

    assert found.keys() == {0, 1}
    for number, seed in ((0, 2), (1, 1)):
        np.testing.assert_array_equal(found[number].logits, logits(seed))
        np.testing.assert_array_equal(found[number].validation.targets, TARGETS)
        assert found[number].validation.labels == IMAGES.labels
        assert found[number].validation.digest == IMAGES.digest
    assert trial_predictions(database, "another", [0]) == {}


def test_a_last_epoch_without_predictions_has_none_of_an_earlier_one(
    database: Database, trials: list[int]
) -> None:
    train(database, trials[0], 1, "a", 1)
    with database.engine.begin() as connection:
        add_trained(connection, trials[0], 2, {"val_ap": 0.6}, "b")

    assert trial_predictions(database, "planet", [0]) == {}


def test_the_first_predictions_of_a_stage_stay(database: Database, trials: list[int]) -> None:
    train(database, trials[0], 1, "a", 1)
    train(database, trials[1], 1, "a", 2)

    found = trial_predictions(database, "planet", [0, 1])

    np.testing.assert_array_equal(found[0].logits, logits(1))
    np.testing.assert_array_equal(found[1].logits, logits(1))


def test_what_is_forgotten_leaves_a_trial_s_last(database: Database, trials: list[int]) -> None:
    for epoch, key in enumerate("abc", start=1):
        train(database, trials[0], epoch, key, epoch)

    with database.engine.begin() as connection:
        forget_predictions(connection, ["a", "c"])
        left = connection.execute(sqlalchemy.text("SELECT key FROM canopy_prediction")).scalars()
        assert set(left) == {"b", "c"}


@given(st.integers(0, 20), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_targets_are_packed_without_loss(images: int, labels: int, seed: int) -> None:
    targets = np.random.default_rng(seed).integers(0, 2, (images, labels), dtype=np.uint8)
    packed = ValidationSet("", ("",) * labels, targets).packed_targets
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=targets.size)
    np.testing.assert_array_equal(bits.reshape(targets.shape), targets)


def test_unknown_targets_are_stored_and_known_ones_take_no_more_room(database: Database) -> None:
    targets = np.array([[1, 255, 1], [0, 0, 255], [255, 1, 0]], dtype=np.uint8)
    images = ValidationSet("partly unknown", IMAGES.labels, targets)
    store = StudyStore(database)
    trial_id = store.open_study("planet").ask()._trial_id
    with database.engine.begin() as connection:
        add_trained(connection, trial_id, 1, {"val_ap": 0.5}, "a")
        predicting("a", images, logits(1))(connection)

    found = trial_predictions(database, "planet", [0])[0].validation

    np.testing.assert_array_equal(found.targets, targets)
    assert found.images_by_label == {"cloudy": 1, "haze": 1, "road": 1}
    assert found.ranked.tolist() == [True, True, True]
    assert len(IMAGES.packed_targets) == 2
    assert len(images.packed_targets) == 4
