"""Trials where memory runs out: what is noted on them, and who goes on with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet
import pytest
import sqlalchemy
import torch
from optuna.trial import TrialState
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.study.reader import read_trials
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.errors import SearchFailedError
from canopy_search.search.events import EpochDone, Event, Note
from canopy_search.search.trial.objective import failure_reason
from canopy_search.search.workflows.promote import promote
from canopy_search.search.workflows.tabulate import tabulate
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import (
    ACCUMULATION_ATTR,
    OUT_OF_MEMORY,
    STAGES_ATTR,
)
from tests.planet_data import write_planet_data
from tests.planned import planned
from tests.search.workers import one_worker
from tests.search.workers.one_worker import Witness, search_here
from tests.short_memory import SHORTAGE, ShortMemory

HALVED = "trial 0: out of memory at batch 16; continues with 2 × 8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planet")
    write_planet_data(folder, images=60)
    return folder


def config(folder: Path, *, shares: bool = True, **search: Any) -> CanopyConfig:
    """Four epochs of tinycnn_8 in batches of 15 images; the first trial has the gamma 0.8."""
    return CanopyConfig.model_validate(
        {
            "data": {
                "labels": folder / "train_classes.csv",
                "images": folder / "train-jpg",
                "image_px": 16,
            },
            "training": {"epochs": 4, "backbone": "tinycnn_8", "batch_size": 16, "threads": 1},
            "search": {
                "pruner": {"name": "none"},
                "space": {"gamma": [0.8, 0.9]},
                "enqueue": [{"gamma": 0.8}],
                **search,
            },
            "stages": {"enabled": shares},
        }
    )


def frozen_trial(database: Database, number: int = 0) -> optuna.trial.FrozenTrial:
    return StudyStore(database).load_study("planet").get_trials()[number]


def stage_count(database: Database) -> int:
    with database.engine.connect() as connection:
        return connection.scalar(sqlalchemy.text("SELECT count(*) FROM canopy_stage"))


class ShortFrom(Witness):
    """Lets memory run short after an epoch, and perhaps interrupts the search at some point."""

    def __init__(
        self, memory: ShortMemory, after: int, interrupts: Callable[[str, Any], bool]
    ) -> None:
        super().__init__()
        self.memory = memory
        self.after = after
        self.interrupts = interrupts

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, EpochDone) and event.epoch == self.after:
            self.memory.training_images = 8
        is_epoch = isinstance(event, EpochDone) and self.interrupts("epoch", event.epoch)
        if is_epoch or (isinstance(event, Note) and self.interrupts("note", event.text)):
            raise KeyboardInterrupt


def test_a_trial_whose_batches_were_cut_is_complete_and_says_so(
    database: Database, folder: Path, memory: ShortMemory
) -> None:
    memory.training_images = 8
    witness = search_here(database, config(folder), folder / "home", 1)
    assert HALVED in witness.notes
    assert [(end.state, end.epochs, end.trained) for end in witness.ends] == [
        (TrialState.COMPLETE, 4, 4)
    ]
    trial = frozen_trial(database)
    assert trial.user_attrs[ACCUMULATION_ATTR] == [[1, 2]]

    # A duplicate comes to the same branch and trains nothing.
    memory.shortages = 0
    twice = config(folder, enqueue=[{"gamma": 0.8}] * 2)
    search_here(database, twice, folder / "home", 2)
    assert memory.shortages == 1
    assert stage_count(database) == 4
    again = frozen_trial(database, 1)
    assert again.value == trial.value
    assert again.system_attrs[STAGES_ATTR] == trial.system_attrs[STAGES_ATTR]


@pytest.mark.parametrize(
    "interrupts",
    [
        lambda what, value: what == "note" and "out of memory" in value,
        lambda what, value: (what, value) == ("epoch", 3),
    ],
    ids=["before the first epoch of the branch", "within the branch"],
)
def test_who_goes_on_with_a_trial_follows_its_branch(
    database: Database,
    folder: Path,
    memory: ShortMemory,
    monkeypatch: pytest.MonkeyPatch,
    interrupts: Callable[[str, Any], bool],
) -> None:
    with monkeypatch.context() as patch:
        witness = ShortFrom(memory, 2, interrupts)
        patch.setattr(one_worker, "Witness", lambda: witness)
        with pytest.raises(KeyboardInterrupt):
            search_here(database, config(folder), folder / "home", 1)
    trial = frozen_trial(database)
    assert trial.state == TrialState.RUNNING
    assert trial.user_attrs[ACCUMULATION_ATTR] == [[3, 2]]
    assert len(trial.intermediate_values) == 2

    memory.training_images, memory.shortages, memory.sizes = None, 0, []
    search_here(database, config(folder), folder / "home", 1)
    assert memory.shortages == 0
    assert max(memory.sizes) <= 8, "it has more memory now, and is cut all the same"
    trial = frozen_trial(database)
    assert trial.state == TrialState.COMPLETE
    assert trial.user_attrs[ACCUMULATION_ATTR] == [[3, 2]]


def test_an_interruption_changes_no_number(
    database: Database, folder: Path, memory: ShortMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = []
    for study, last in (("one", 3), ("other", 9)):
        witness = ShortFrom(memory, 2, lambda *event, last=last: event == ("epoch", last))
        memory.training_images = None
        monkeypatch.setattr(one_worker, "Witness", lambda witness=witness: witness)
        alone = config(folder, shares=False)
        if last == 3:
            with pytest.raises(KeyboardInterrupt):
                search_here(database, alone, folder / "home", 1, study)
            witness.interrupts = lambda *event: False
        search_here(database, alone, folder / "home", 1, study)
        [trial] = StudyStore(database).load_study(study).get_trials()
        assert trial.user_attrs[ACCUMULATION_ATTR] == [[3, 2]]
        values.append(trial.intermediate_values)
    assert values[0] == values[1]
    assert stage_count(database) == 0, "a tree of their own, which is forgotten"


def test_a_trial_that_fits_in_no_way_fails_with_the_reason(
    database: Database, folder: Path, memory: ShortMemory, words: SnapshotAssertion
) -> None:
    memory.training_images = 1
    settings = config(folder, max_failures=2)
    with pytest.raises(SearchFailedError) as error:
        search_here(database, settings, folder / "home", 1)
    assert str(error.value) == words
    trials = read_trials(StudyStore(database), "planet").trials
    assert [trial.state for trial in trials] == ["FAIL", "FAIL"]
    for trial in trials:
        assert trial.reason is not None
        assert trial.reason.startswith(f"{OUT_OF_MEMORY}: tinycnn_8 with batch_size 16 ")
        assert "\n" not in trial.reason
        assert trial.has_gone_wrong


def test_a_network_that_has_no_room_by_itself_has_the_same_reason() -> None:
    torchs = failure_reason(torch.OutOfMemoryError(SHORTAGE))
    assert torchs == f"{OUT_OF_MEMORY}: {SHORTAGE.partition('. GPU')[0]}"
    assert failure_reason(MemoryError()) == f"{OUT_OF_MEMORY}: MemoryError"


def test_a_promotion_goes_on_on_the_branch(
    database: Database, folder: Path, memory: ShortMemory
) -> None:
    memory.training_images = 8
    settings = config(folder)
    search_here(database, settings, folder / "home", 1)
    done = frozen_trial(database)
    StudyStore(database).load_study("planet").add_trial(
        optuna.trial.create_trial(
            state=TrialState.PRUNED,
            params=done.params,
            distributions=done.distributions,
            user_attrs={ACCUMULATION_ATTR: [[1, 2]]},
            intermediate_values={1: done.intermediate_values[1]},
        )
    )
    memory.shortages = 0
    [end] = promote(planned(settings, folder / "home", "planet", 1), database, [1], Witness().emit)
    assert (end.state, end.val_ap, end.trained) == (TrialState.COMPLETE, done.value, 0)
    assert memory.shortages == 0
    assert frozen_trial(database, 2).user_attrs[ACCUMULATION_ATTR] == [[1, 2]]


def test_a_table_has_the_epochs_of_a_branch_too(
    database: Database, folder: Path, memory: ShortMemory, tmp_path: Path
) -> None:
    memory.training_images = 8
    plan = planned(config(folder), folder / "home", "planet", 1)
    witness = Witness()
    assert tabulate(plan, database, tmp_path / "curves.parquet", witness.emit) == 2
    rows = pyarrow.parquet.read_table(tmp_path / "curves.parquet").to_pylist()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4] * 2
    assert HALVED.removeprefix("trial 0: ") in witness.notes
