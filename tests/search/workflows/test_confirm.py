"""Finalists with further seeds: exactly what was asked, in spite of failures, and tested once."""

import itertools
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import sqlalchemy
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.study.confirmation import Confirmation
from canopy_search.dashboards.study.model import StudyData
from canopy_search.dashboards.study.reader import read_trials
from canopy_search.search.config.settings import CanopyConfig, ConfirmSettings
from canopy_search.search.config.space import with_params
from canopy_search.search.errors import ConfirmationError, SearchFailedError, StudyDiffersError
from canopy_search.search.study.plan import SearchPlan
from canopy_search.search.trial import stage_tree
from canopy_search.search.workflows.best_files import best_files
from canopy_search.storage.database import Database
from canopy_search.storage.schema.tables import TEST
from canopy_search.storage.study.mirror_rows import STUDY_TASK
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import STOPPED
from canopy_search.storage.workers.control import STOP_PRUNING
from canopy_search.training.data.dataset import open_dataset
from canopy_search.training.errors import DivergedError, OutOfMemoryError
from canopy_search.training.run import TrainingRun
from tests.planet_data import write_planet_data
from tests.search.workers.one_worker import hear_soon, search_here
from tests.search.workflows.confirm_here import confirm_here, let_it_run_here

CONFIRMING = "planet/confirm"
BASE = {"loss": "focal", "gamma": 0.8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planet")
    write_planet_data(folder, images=60)
    return folder


def config(folder: Path, *, stages: bool = True, test: float = 0.15, **search: Any) -> CanopyConfig:
    return CanopyConfig.model_validate(
        {
            "data": {
                "labels": folder / "train_classes.csv",
                "images": folder / "train-jpg",
                "image_px": 16,
                "split": {"test": test},
            },
            "training": {"epochs": 2, "backbone": "tinycnn_8", "threads": 1, "batch_size": 16},
            "search": {
                "pruner": {"name": "none"},
                "space": {"gamma": [0.8, 0.9], "loss": ["bce", "focal"]},
                "enqueue": [BASE],
                **search,
            },
            "stages": {"enabled": stages},
        }
    )


def summary_of(database: Database, study: str = CONFIRMING) -> StudyData:
    return read_trials(StudyStore(database), study)


def scores_in(database: Database) -> list[Any]:
    """When which trial was tested."""
    with database.engine.connect() as connection:
        rows = connection.execute(sqlalchemy.select(TEST.c.trial_id, TEST.c.scored))
        return sorted(tuple(row) for row in rows)


def seeds_tested(patch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of the runs that are evaluated on test."""
    seeds: list[int] = []
    real = TrainingRun.evaluate

    def evaluate(run: TrainingRun, indices: Any) -> Any:
        if np.array_equal(indices, run.dataset.split.test):
            seeds.append(run.settings.seed)
        return real(run, indices)

    patch.setattr(TrainingRun, "evaluate", evaluate)
    return seeds


def settings_of(confirmation: Confirmation) -> list[dict[str, Any]]:
    return [each.candidate.params for each in confirmation.settings]


@pytest.mark.parametrize("stages", [True, False])
def test_every_number_is_that_of_a_run_by_itself(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch, stages: bool
) -> None:
    let_it_run_here(monkeypatch)
    settings = config(folder, stages=stages)
    with monkeypatch.context() as patch:
        seeds = seeds_tested(patch)
        search_here(database, settings, folder / "home", 3)
        assert seeds == [], "no trial of a search is tested"
        end, _ = confirm_here(database, settings, folder / "home", ConfirmSettings(top=2, seeds=2))
    assert sorted(seeds) == sorted(params["seed"] for params in end.confirmation.wanted)

    known = end.confirmation
    assert known.is_complete
    assert end.stopped is None
    assert known.seeds == (1, 2)
    assert sum(params == BASE for params in settings_of(known)) == 1
    runs = {(run.seed, each.candidate.params["loss"], each.candidate.params["gamma"]): run
            for each in known.settings for run in each.runs}  # fmt: skip
    trials = summary_of(database).trials
    assert len(runs) == len(trials) == len(scores_in(database)) == 2 * len(known.settings)
    dataset = open_dataset(settings.data, folder / "home")
    for (seed, loss, gamma), run in runs.items():
        params = {"seed": seed, "loss": loss, "gamma": gamma}
        alone = TrainingRun.of(with_params(settings.training, params), dataset)
        while not alone.is_finished:
            last = alone.train_epoch()
        assert run.val_ap == last.validation.metrics.ap
        assert run.test == alone.evaluate(dataset.split.test).as_dict("test", loss)

    means = [np.mean([run.val_ap for run in each.runs]) for each in known.settings]
    assert means == sorted(means, reverse=True)
    assert known.winner is known.settings[0]
    assert known.winner.val_ap is not None
    assert known.winner.val_ap.mean == pytest.approx(max(means))
    assert known.against_second is not None
    assert known.against_second.mean == pytest.approx(means[0] - means[1])
    assert known.against_second.over == "2 seeds and the images"

    # What the mirror attaches is what canopy best writes.
    summary = summary_of(database, "planet")
    winner = known.winner
    assert winner is not None
    found = list(best_files(database, folder / "home", None)(summary))
    assert [each.number for each in found] == [STUDY_TASK, winner.candidate.trial]
    text = found[0].read().decode()
    assert f"seed: {winner.runs[0].seed}" in text
    assert "over 2 additional seeds" in text


class Ran(NamedTuple):
    """What was run in this process.

    Attributes:
        plans: the searches.
        trained: the epochs.
    """

    plans: list[SearchPlan]
    trained: list[int]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, trained: list[int]) -> Ran:
    """Lets searches run in this process, and records them."""
    return Ran(let_it_run_here(monkeypatch), trained)


def test_asking_again_trains_and_tests_nothing(
    database: Database, folder: Path, tmp_path: Path, ran: Ran, words: SnapshotAssertion
) -> None:
    plans, trained = ran
    settings = config(folder)
    search_here(database, settings, folder / "home", 2)
    StudyStore(database).launch("planet", 5, settings.search.model_dump(mode="json"))
    first, witness = confirm_here(database, settings, folder / "home")
    assert [note for note in witness.notes if "finalists" in note] == words(name="not finished")
    before = scores_in(database)
    trained.clear()
    again, witness = confirm_here(database, settings, folder / "home")
    assert again.confirmation.as_json() == first.confirmation.as_json()
    assert (len(plans), trained, witness.notes) == (1, [], [])
    assert scores_in(database) == before

    # What is known needs no data, and what is not needs those that the study had.
    write_planet_data(tmp_path, images=60, seed=8)
    shown, _ = confirm_here(database, config(tmp_path), folder / "home")
    assert shown.confirmation.as_json() == first.confirmation.as_json()
    with pytest.raises(StudyDiffersError, match=r"data\.fingerprint"):
        confirm_here(database, config(tmp_path), folder / "home", ConfirmSettings(top=1, seeds=3))

    with pytest.raises(ConfirmationError) as error:
        confirm_here(database, settings, folder / "home", ConfirmSettings(top=9, seeds=2))
    said = re.sub(r"has [12] different", "has FEW different", str(error.value))
    assert said == words(name="too few settings")
    with pytest.raises(ConfirmationError) as error:
        confirm_here(database, settings, folder / "home", study=CONFIRMING)
    assert str(error.value) == words(name="a confirmation")
    assert len(plans) == 1


def test_more_seeds_and_finalists_add_what_is_missing(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = let_it_run_here(monkeypatch)
    space = {"gamma": [0.8, 0.9, 0.95], "loss": ["bce", "focal"]}
    enqueue = [BASE, {"loss": "bce", "gamma": 0.8}, {"loss": "bce", "gamma": 0.9}]
    settings = config(folder, space=space, enqueue=enqueue)
    search_here(database, settings, folder / "home", 3)
    few, _ = confirm_here(database, settings, folder / "home", ConfirmSettings(top=1, seeds=2))
    before = scores_in(database)
    more, _ = confirm_here(database, settings, folder / "home", ConfirmSettings(top=3, seeds=3))
    assert len(more.confirmation.settings) == 3
    assert plans[-1].n_trials == 9 == len(summary_of(database).trials)
    assert set(before) <= set(scores_in(database))
    # What was known of fewer is as it was, and asked for again it costs nothing.
    again, _ = confirm_here(database, settings, folder / "home", ConfirmSettings(top=1, seeds=2))
    assert again.confirmation.as_json() == few.confirmation.as_json()
    assert len(plans) == 2


def test_a_death_between_the_last_epoch_and_the_test_costs_nothing(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch, trained: list[int]
) -> None:
    let_it_run_here(monkeypatch)
    settings = config(folder)
    search_here(database, settings, folder / "home", 2)
    trained.clear()
    with monkeypatch.context() as patch:

        def dies(*arguments: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(stage_tree.StageTree, "test_scores", dies)
        with pytest.raises(KeyboardInterrupt):
            confirm_here(database, settings, folder / "home")
    [trial] = summary_of(database).trials
    assert (trial.state, len(trial.metrics)) == ("INTERRUPTED", 2)
    assert scores_in(database) == []
    end, _ = confirm_here(database, settings, folder / "home")
    assert end.confirmation.is_complete
    assert len(scores_in(database)) == len(end.confirmation.wanted)
    epochs = {stage for each in summary_of(database).trials for stage in [each.epochs_trained]}
    assert sum(each.epochs_trained for each in summary_of(database).trials) == len(trained)
    assert max(epochs) == 2


def test_a_run_that_fails_is_trained_again_with_the_same_setting(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_it_run_here(monkeypatch)
    settings = config(folder)
    search_here(database, settings, folder / "home", 2)
    made: list[int] = []

    class FailsOnce(TrainingRun):
        def train_epoch(self, *arguments: Any) -> Any:
            made.append(1)
            if len(made) == 3:
                raise RuntimeError("out of luck")
            return super().train_epoch(*arguments)

    monkeypatch.setattr(stage_tree, "TrainingRun", FailsOnce)
    end, _ = confirm_here(database, settings, folder / "home")
    trials = summary_of(database).trials
    failed = [trial for trial in trials if trial.state == "FAIL"]
    assert len(failed) == 1
    assert end.confirmation.is_complete
    complete = [trial.params for trial in trials if trial.state == "COMPLETE"]
    assert failed[0].params in complete
    assert sorted(map(repr, complete)) == sorted(map(repr, end.confirmation.wanted))


def test_a_setting_that_does_not_fit_into_memory_is_not_replaced_by_another_one(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    let_it_run_here(monkeypatch)
    settings = config(folder)
    search_here(database, settings, folder / "home", 2)

    class Short(TrainingRun):
        def train_epoch(self, *arguments: Any) -> Any:
            raise OutOfMemoryError("too large", "buy more", epoch=1)

    monkeypatch.setattr(stage_tree, "TrainingRun", Short)
    with pytest.raises(SearchFailedError) as error:
        confirm_here(database, settings, folder / "home")
    assert str(error.value) == words
    [trial] = summary_of(database).trials
    assert trial.state == "FAIL"


def test_a_setting_that_diverges_with_one_seed_does_not_win(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_it_run_here(monkeypatch)
    settings = config(folder, enqueue=[BASE, {"loss": "bce", "gamma": 0.9}])
    search_here(database, settings, folder / "home", 2)

    class Diverges(TrainingRun):
        def train_epoch(self, *arguments: Any) -> Any:
            if self.settings.loss == "bce" and self.settings.seed == 2:
                raise DivergedError("the training loss is nan in epoch 1")
            return super().train_epoch(*arguments)

    monkeypatch.setattr(stage_tree, "TrainingRun", Diverges)
    end, _ = confirm_here(database, settings, folder / "home", ConfirmSettings(top=2, seeds=2))
    known = end.confirmation
    assert known.is_complete
    diverged = known.settings[-1]
    assert diverged.candidate.params == {"loss": "bce", "gamma": 0.9}
    assert (diverged.val_ap, diverged.test_ap) == (None, None)
    assert "diverged" in (diverged.runs[1].reason or "")
    assert known.winner is not None
    assert known.winner.candidate.params == BASE
    assert (known.second, known.against_second, known.against_baseline) == (None, None, None)


def test_what_a_person_stopped_is_trained_when_it_is_asked_for_again(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_it_run_here(monkeypatch)
    settings = config(folder)
    search_here(database, settings, folder / "home", 2)

    class Stops(TrainingRun):
        def train_epoch(self, *arguments: Any) -> Any:
            StudyStore(database).set_control(CONFIRMING, STOP_PRUNING)
            for done in itertools.count(1):  # until the trial is told to end
                arguments[0](1, done, 9)

    with monkeypatch.context() as patch:
        hear_soon(patch)
        patch.setattr(stage_tree, "TrainingRun", Stops)
        end, _ = confirm_here(database, settings, folder / "home")
    assert not end.confirmation.is_complete
    assert end.stopped is not None
    assert [trial.reason for trial in summary_of(database).trials] == [STOPPED]
    end, _ = confirm_here(database, settings, folder / "home")
    assert end.confirmation.is_complete
    assert len(summary_of(database).trials) == 1 + len(end.confirmation.wanted)


def test_without_test_images_the_choice_is_made_all_the_same(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    let_it_run_here(monkeypatch)
    settings = config(folder, test=0.0)
    search_here(database, settings, folder / "home", 2)
    end, witness = confirm_here(database, settings, folder / "home")
    assert [note for note in witness.notes if "data.split.test" in note] == words
    assert end.confirmation.winner is not None
    assert end.confirmation.winner.test_ap is None
    assert scores_in(database) == []


def test_a_baseline_outside_of_the_space_is_trained_too(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_it_run_here(monkeypatch)
    space = {
        "gamma": {"low": 0.8, "high": 0.95, "step": 0.05},
        "loss": ["focal", "weighted_bce"],
        "optimizer.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
    }
    settings = config(folder, space=space, enqueue=[])
    search_here(database, settings, folder / "home", 2)
    end, _ = confirm_here(database, settings, folder / "home", ConfirmSettings(top=2, seeds=2))
    base = end.confirmation.base
    assert base.candidate.params == {"gamma": 1.0, "loss": "bce", "optimizer.weight_decay": 0.0}
    assert (base.candidate.trial, len(base.runs)) == (None, 2)
