"""Trials that Canopy cannot use, as other programs may leave them in a study, are left out."""

from collections.abc import Iterator
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import REASON_ATTR, is_left_out
from tests.odd_trials import add_odd_trials

SPACE = {
    "gamma": FloatDistribution(0.8, 1.0, step=0.01),
    "loss": CategoricalDistribution(("bce", "focal")),
}


@pytest.fixture
def store(database: Database) -> Iterator[StudyStore]:
    opened = StudyStore(database)
    opened.open_study("planet")
    opened.write_record("planet", {"space": {"gamma": "0.8 to 1 step 0.01", "loss": "bce, focal"}})
    yield opened
    opened.close()


def test_odd_trials_are_left_out_with_the_reason(
    database: Database, store: StudyStore, words: SnapshotAssertion
) -> None:
    study = store.load_study("planet")
    add_odd_trials(database, study, SPACE)
    good = optuna.trial.create_trial(
        params={"gamma": 0.9, "loss": "bce"}, distributions=SPACE, value=0.5
    )
    study.add_trial(good)
    *odd, last = store.trials("planet")
    assert {trial.number: trial.user_attrs[REASON_ATTR] for trial in odd} == words
    assert all(is_left_out(trial) for trial in odd)
    assert (last.state, last.params, last.value) == (TrialState.COMPLETE, good.params, 0.5)


def test_a_trial_that_is_left_out_returns_when_it_is_mended(
    database: Database, store: StudyStore
) -> None:
    study = store.load_study("planet")
    study.add_trial(
        optuna.trial.create_trial(
            params={"gamma": 0.9, "loss": "bce"}, distributions=SPACE, state=TrialState.PRUNED
        )
    )
    replica = store.open_replica("planet")

    def read(change: str) -> TrialState:
        with database.engine.begin() as connection:
            connection.execute(sqlalchemy.text(change))
        store.refresh(replica)
        [trial] = replica.get_all_trials(0)
        return trial.state

    assert read("UPDATE trials SET state = 'COMPLETE'") == TrialState.FAIL
    assert read("UPDATE trials SET state = 'PRUNED'") == TrialState.PRUNED


def test_an_attribute_of_our_name_and_another_form_is_not_ours(store: StudyStore) -> None:
    odd: list[tuple[str, object]] = [
        ("reason", 3),
        ("reason", ["no", "text"]),
        ("rung", "1"),
        ("rung", {"paused": True}),
        ("rung", {"to_epoch": "1", "paused": True}),
        ("rung", {"to_epoch": 1, "paused": "yes"}),
        ("epochs_resumed", "2"),
        ("accumulation", [[1]]),
        ("accumulation", {"from_epoch": 1}),
        ("promoted_from", None),
        ("full", 0),
        ("verifies", True),
        ("verifies", {"kind": "neighbour"}),
        ("enqueued", ["a"]),
    ]
    study = store.load_study("planet")
    for name, value in odd:
        study.enqueue_trial({"gamma": 0.9}, user_attrs={name: value, "somebody's": value})
    found = [trial.user_attrs for trial in store.trials("planet")]
    assert found == [{"somebody's": value} for _, value in odd]


def test_stages_of_another_form_are_not_ours(store: StudyStore) -> None:
    odd: list[Any] = [3, "abc", [1], None]
    study, storage = store.load_study("planet"), store.optuna_storage
    for stages in odd:
        trial = study.ask()
        storage.set_trial_system_attr(trial._trial_id, "canopy:stages", stages)
        storage.set_trial_system_attr(trial._trial_id, "canopy:left_out", "COMPLETE")
        storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    found = [(trial.state, trial.system_attrs) for trial in store.trials("planet")]
    assert found == [(TrialState.FAIL, {})] * len(odd)
