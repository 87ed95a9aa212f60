"""The loop of trials, with training replaced where a test needs it to fail."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.study.reader import read_trials
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.errors import SearchFailedError
from canopy_search.search.trial import stage_tree
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import STOPPED
from canopy_search.storage.workers.control import STOP_FINISHING, STOP_PRUNING
from canopy_search.training.errors import OutOfMemoryError
from canopy_search.training.run import TrainingRun
from tests.odd_trials import add_odd_trials
from tests.planet_data import write_planet_data
from tests.search.workers.one_worker import hear_soon, search_here


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planet")
    write_planet_data(folder, images=60)
    return folder


def config(folder: Path, training: dict[str, Any] | None = None, **search: Any) -> CanopyConfig:
    return CanopyConfig.model_validate(
        {
            "data": {
                "labels": folder / "train_classes.csv",
                "images": folder / "train-jpg",
                "image_px": 16,
            },
            "training": {"epochs": 2, "backbone": "tinycnn_8", "threads": 1, **(training or {})},
            "search": {
                "pruner": {"name": "none"},
                "space": {"gamma": [0.8, 0.9], "loss": ["bce", "focal"]},
                **search,
            },
        }
    )


def test_a_failed_trial_is_replaced_and_keeps_its_reason(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    class FailsOnce(TrainingRun):
        def train_epoch(self, *arguments: Any) -> Any:
            made.append(1)
            if len(made) == 3:
                raise RuntimeError("out of luck\nand more")
            return super().train_epoch(*arguments)

    monkeypatch.setattr(stage_tree, "TrainingRun", FailsOnce)
    witness = search_here(database, config(folder), folder / "home", 3)
    assert [end.state for end in witness.ends] == [
        TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE,
    ]  # fmt: skip
    summary = read_trials(StudyStore(database), "planet")
    assert summary.trials[1].reason == "RuntimeError: out of luck"
    assert summary.as_json()["trials"]["failed"] == 1
    assert summary.finished == 3


def test_too_many_failures_in_a_row_end_the_search_with_the_reason(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("no luck at all")

    monkeypatch.setattr(TrainingRun, "train_epoch", fail)
    with pytest.raises(SearchFailedError) as error:
        search_here(database, config(folder, max_failures=2), folder / "home", 5)
    assert str(error.value) == words
    trials = read_trials(StudyStore(database), "planet").trials
    assert [trial.state for trial in trials] == ["FAIL", "FAIL"]


def test_a_run_that_diverges_is_pruned_with_the_reason(database: Database, folder: Path) -> None:
    settings = config(folder, {"optimizer": {"name": "sgd", "lr": 1e30}})
    witness = search_here(database, settings, folder / "home", 1)
    assert witness.ends[0].state == TrialState.PRUNED
    assert witness.ends[0].reason is not None
    assert witness.ends[0].reason.startswith("diverged: ")
    summary = read_trials(StudyStore(database), "planet")
    assert summary.finished == 1
    assert summary.best is None


def test_a_grid_ends_when_all_points_are_tried(database: Database, folder: Path) -> None:
    settings = config(folder, {"epochs": 1}, sampler={"name": "grid"})
    search_here(database, settings, folder / "home", 40)
    trials = read_trials(StudyStore(database), "planet").trials
    assert len({tuple(trial.params.values()) for trial in trials}) == len(trials) == 4


def test_a_setting_enqueued_twice_is_tried_twice_and_never_again(
    database: Database, folder: Path
) -> None:
    twice = [{"gamma": 0.8, "loss": "bce"}] * 2
    settings = config(folder, {"epochs": 1}, enqueue=twice)
    for total in (1, 3):
        search_here(database, settings, folder / "home", total)
    trials = read_trials(StudyStore(database), "planet").trials
    assert [trial.params for trial in trials[:2]] == twice
    assert trials[0].val_ap == trials[1].val_ap
    assert len(trials) == 3


def test_trials_of_other_programs_neither_count_nor_end_the_search(
    database: Database, folder: Path, words: SnapshotAssertion
) -> None:
    settings = config(
        folder,
        pruner={"name": "branches"},
        sampler={"name": "tpe", "n_startup_trials": 1},
        space={"gamma": {"low": 0.8, "high": 1.0, "step": 0.01}, "loss": ["bce", "focal"]},
    )
    search_here(database, settings, folder / "home", 1)
    store = StudyStore(database)
    study = store.load_study("planet")
    [first] = study.get_trials()
    odd = add_odd_trials(database, study, first.distributions)
    for params in ({"gamma": "high"}, {"loss": "hinge"}, {"x": 1}, [0.8]):
        study.enqueue_trial({"gamma": 0.8}, user_attrs={"enqueued": [], "rung": 3, "verifies": 1})
        [*_, last] = study.get_trials(deepcopy=False)
        store.optuna_storage.set_trial_system_attr(last._trial_id, "fixed_params", params)
    store.close()
    witness = search_here(database, settings, folder / "home", 8)
    summary = read_trials(StudyStore(database), "planet")
    assert summary.finished == 8
    assert summary.best is not None
    assert not 1 <= summary.best.number < odd
    named = [note for note in witness.notes if "left out" in note]
    assert named == words
    assert len(named) == odd - 1 + 4


def test_epochs_are_compared_with_the_best_of_the_other_trials(
    database: Database, folder: Path
) -> None:
    witness = search_here(database, config(folder), folder / "home", 2)
    first, second = witness.epochs[:2], witness.epochs[2:]
    assert [event.best_of_others for event in first] == [None, None]
    assert [event.best_of_others for event in second] == [event.val_ap for event in first]


def test_a_pruned_trial_keeps_its_metrics(database: Database, folder: Path) -> None:
    settings = config(
        folder,
        {"epochs": 3},
        pruner={"name": "median", "n_startup_trials": 1},
        enqueue=[{"gamma": 0.9, "loss": "bce"}],
    )
    witness = search_here(database, settings, folder / "home", 8)
    pruned = [end for end in witness.ends if end.state == TrialState.PRUNED]
    assert pruned, "nothing was pruned: the test needs another seed"
    trials = read_trials(StudyStore(database), "planet").trials
    for end in pruned:
        assert len(trials[end.number].metrics) == end.epochs < 3
        assert trials[end.number].val_ap == end.val_ap


def short_of_memory(monkeypatch: pytest.MonkeyPatch, losses: set[str]) -> None:
    """Trials with these losses always run out of memory."""

    class Short(TrainingRun):
        def train_epoch(self, *arguments: Any) -> Any:
            if self.settings.loss in losses:
                raise OutOfMemoryError("too large", "buy more", epoch=1)
            return super().train_epoch(*arguments)

    monkeypatch.setattr(stage_tree, "TrainingRun", Short)


def test_a_setting_that_ran_out_of_memory_is_not_begun_again(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_of_memory(monkeypatch, {"focal"})
    space = {"gamma": [0.8], "loss": ["bce", "focal"]}
    settings = config(folder, {"epochs": 1, "batch_size": 2}, space=space)
    search_here(database, settings, folder / "home", 12)
    summary = read_trials(StudyStore(database), "planet")
    assert summary.finished == 12
    assert [trial.params["loss"] for trial in summary.trials if trial.state == "FAIL"] == ["focal"]
    assert [trial.number for trial in summary.trials] == list(range(13)), "no number is missing"


def test_where_nothing_fits_the_search_ends_in_words(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    short_of_memory(monkeypatch, {"bce", "focal"})
    space = {"gamma": [0.8], "loss": ["bce", "focal"]}
    settings = config(folder, {"batch_size": 2}, space=space, max_failures=9)
    with pytest.raises(SearchFailedError) as error:
        search_here(database, settings, folder / "home", 12)
    assert str(error.value) == words
    assert len(read_trials(StudyStore(database), "planet").trials) == 2


def test_too_many_failures_in_total_end_the_search_though_others_succeed(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    class Unlucky(TrainingRun):
        def train_epoch(self, *arguments: Any) -> Any:
            if self.settings.loss == "focal":
                raise RuntimeError("no luck with this one")
            return super().train_epoch(*arguments)

    monkeypatch.setattr(stage_tree, "TrainingRun", Unlucky)
    settings = config(folder, {"epochs": 1}, max_failures=30, max_failures_total=3)
    with pytest.raises(SearchFailedError) as error:
        search_here(database, settings, folder / "home", 40)
    assert str(error.value) == words
    trials = read_trials(StudyStore(database), "planet").trials
    failed = sum(trial.state == "FAIL" for trial in trials)
    assert failed == 3 < len(trials)
    # The user restarts it after a fix, so failures are counted from zero.
    monkeypatch.undo()
    search_here(database, settings, folder / "home", len(trials) - failed + 1)
    trials = read_trials(StudyStore(database), "planet").trials
    assert sum(trial.state == "FAIL" for trial in trials) == 3
    assert trials[-1].state == "COMPLETE"


def test_a_trial_that_takes_too_long_is_pruned_with_the_reason(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(TrainingRun):
        def train_epoch(self, *arguments: Any) -> Any:
            return dataclasses.replace(super().train_epoch(*arguments), train_s=1e6)

    monkeypatch.setattr(stage_tree, "TrainingRun", Slow)
    settings = config(folder, {"epochs": 5}, max_trial_s=2.5e6)
    search_here(database, settings, folder / "home", 1)
    [trial] = read_trials(StudyStore(database), "planet").trials
    assert trial.state == "PRUNED"
    assert trial.reason is not None
    assert trial.reason.startswith("max_trial_s: ")
    assert len(trial.metrics) == 3


def test_a_plateau_ends_the_search(database: Database, folder: Path) -> None:
    settings = config(
        folder,
        {"epochs": 1},
        stop_when={"no_improvement_trials": 4},
        enqueue=[{"gamma": 0.8, "loss": "bce"}] * 12,
    )
    search_here(database, settings, folder / "home", 12)
    summary = read_trials(StudyStore(database), "planet")
    assert summary.finished == 5
    assert summary.best is not None
    assert summary.best.number == 0


@pytest.mark.parametrize("control", [STOP_FINISHING, STOP_PRUNING])
def test_a_person_stops_the_study(
    database: Database, folder: Path, control: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stops(TrainingRun):
        def train_epoch(self, *arguments: Any) -> Any:
            if self.epoch == 1:
                StudyStore(database).set_control("planet", control)
                for done in itertools.count(1) if control == STOP_PRUNING else ():
                    arguments[0](2, done, 9)  # as long as the epoch takes
            return super().train_epoch(*arguments)

    hear_soon(monkeypatch)
    monkeypatch.setattr(stage_tree, "TrainingRun", Stops)
    search_here(database, config(folder), folder / "home", 4)
    [trial] = read_trials(StudyStore(database), "planet").trials
    if control == STOP_FINISHING:
        assert (trial.state, len(trial.metrics)) == ("COMPLETE", 2)
    else:
        assert (trial.state, trial.reason) == ("PRUNED", STOPPED)
        assert len(trial.metrics) == 1
