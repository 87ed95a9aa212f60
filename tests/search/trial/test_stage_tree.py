import re
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy
import torch
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import StageBusyError
from canopy_search.search.trial.checkpoint_writer import CheckpointWriter
from canopy_search.storage.database import Database
from canopy_search.storage.stages.stages import Stage, StageStore
from canopy_search.storage.study.predictions import trial_predictions
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.registry import GONE_S, LEASE_S
from canopy_search.training.errors import DivergedError
from canopy_search.training.liveness import LONGEST_SILENCE_S, heard_by
from canopy_search.training.metrics import multilabel_metrics
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import TrainingSettings
from tests.databases import stored_trial_id
from tests.search.trial.tree_worker import (
    Hire,
    Worker,
    numbers,
    straight,
    straight_run,
    tiny_dataset,
    tiny_settings,
    weights_digest,
)
from tests.storage import dying
from tests.waiting import HANG_S


def test_runs_that_differ_in_gamma_share_their_first_epoch(hire: Hire, trained: list[int]) -> None:
    worker = hire()
    one = worker.run_path(tiny_settings(gamma=0.9))
    other = worker.run_path(tiny_settings(gamma=0.8))

    assert trained == [1, 2, 3, 2, 3]
    assert [epoch.is_new for epoch in other] == [False, True, True]
    trained.clear()
    assert numbers(one) == straight(tiny_settings(gamma=0.9))
    assert numbers(other) == straight(tiny_settings(gamma=0.8))
    assert worker.notes == []


def test_five_cool_downs_train_their_trunk_once(hire: Hire, trained: list[int]) -> None:
    worker = hire()
    for final_factor in (0.0, 0.01, 0.1, 0.3, 1.0):
        schedule = {
            "name": "wsd",
            "warmup_epochs": 1,
            "decay_epochs": 4,
            "final_factor": final_factor,
        }
        settings = tiny_settings(epochs=20, schedule=schedule)
        epochs = worker.run_path(settings)
        assert len(epochs) == 20
        last = epochs
    assert trained == [*range(1, 21), *[17, 18, 19, 20] * 4]
    assert numbers(last) == straight(settings)


def test_duplicates_cost_nothing(hire: Hire, trained: list[int]) -> None:
    first = hire().run_path(tiny_settings())
    for _ in range(2):
        again = hire().run_path(tiny_settings())
        assert numbers(again) == numbers(first)
        assert not any(epoch.is_new for epoch in again)
    assert trained == [1, 2, 3]


def test_a_longer_run_goes_on_where_a_shorter_one_ended(hire: Hire, trained: list[int]) -> None:
    hire().run_path(tiny_settings(epochs=2))
    worker = hire()
    run_path = worker.tree.plan(tiny_settings(epochs=4))
    epochs = list(worker.tree.epochs(run_path))
    assert trained == [1, 2, 3, 4]
    assert (len(run_path.known), run_path.resumed) == (2, 2)
    trained.clear()
    assert numbers(epochs) == straight(tiny_settings(epochs=4))


def test_a_run_that_goes_on_in_another_process_has_the_same_weights(hire: Hire) -> None:
    settings = tiny_settings(epochs=5, gamma=0.9)
    worker = hire()
    with closing(worker.tree.epochs(worker.tree.plan(settings))) as epochs:
        next(epochs), next(epochs)
    worker.writer.flush()
    other = hire()
    other.run_path(settings)
    other.writer.flush()
    assert other.tree._position is not None

    run = TrainingRun.of(settings, tiny_dataset())
    for _ in range(5):
        run.train_epoch()
    assert weights_digest(other.tree._position.run) == weights_digest(run)


def test_the_run_in_memory_goes_on_without_a_checkpoint(
    hire: Hire, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = hire()
    settings = tiny_settings()
    run_path = worker.tree.plan(settings)
    with closing(worker.tree.epochs(run_path)) as epochs:
        next(epochs)
        worker.tree.write(run_path)
    monkeypatch.setattr(CheckpointWriter, "load", lambda *_: pytest.fail("read a checkpoint"))
    worker.run_path(settings)
    assert trained == [1, 2, 3]


def test_a_run_in_memory_of_another_setting_is_not_gone_on_with(
    hire: Hire, trained: list[int]
) -> None:
    worker = hire()
    with closing(worker.tree.epochs(worker.tree.plan(tiny_settings(gamma=0.9)))) as epochs:
        next(epochs)
    other = worker.run_path(tiny_settings(gamma=0.5))
    trained.clear()
    assert numbers(other) == straight(tiny_settings(gamma=0.5))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    ],
    ids=["missing", "cut off", "changed"],
)
def test_a_spoilt_checkpoint_is_a_miss_told_once(
    hire: Hire,
    trained: list[int],
    tmp_path: Path,
    spoil: Callable[[Path], Any],
    words: SnapshotAssertion,
) -> None:
    worker = hire()
    worker.run_path(tiny_settings(gamma=0.9))
    worker.writer.flush()
    first_key = worker.tree.plan(tiny_settings()).keys[0]
    [path] = tmp_path.glob(f"checkpoints/*/{first_key}.pt")
    spoil(path)
    trained.clear()

    other = hire()
    epochs = other.run_path(tiny_settings(gamma=0.8))

    assert trained == [1, 2, 3], "the first epoch again"
    assert len(other.notes) == 1
    assert list(other.notes) == words
    trained.clear()
    third = hire()
    third.run_path(tiny_settings(gamma=0.7))
    assert trained == [2, 3], "it was written anew"
    assert third.notes == []
    assert numbers(epochs) == straight(tiny_settings(gamma=0.8))


def test_without_any_checkpoint_all_is_trained_again_and_known_epochs_stay(
    hire: Hire,
    trained: list[int],
    tmp_path: Path,
    database: Database,
    words: SnapshotAssertion,
) -> None:
    worker = hire(budget_bytes=10)  # none fits
    worker.run_path(tiny_settings(epochs=2))
    worker.run_path(tiny_settings(epochs=2, gamma=0.9))
    other = hire(budget_bytes=10)
    epochs = other.run_path(tiny_settings())

    assert trained == [1, 2, 1, 2, 1, 2, 3]
    assert [epoch.is_new for epoch in epochs] == [False, False, True]
    assert not list(tmp_path.glob("checkpoints/*/*.pt"))
    (note,) = other.notes
    assert re.sub(r"[\d.]+ MiB", "SIZE", note) == words
    with database.engine.connect() as connection:
        times = sqlalchemy.text("SELECT sum(times_trained) FROM canopy_stage")
        assert connection.scalar(times) == 7


def test_a_place_that_cannot_be_written_to_costs_checkpoints_and_nothing_else(
    hire: Hire, tmp_path: Path, words: SnapshotAssertion
) -> None:
    (tmp_path / "checkpoints").write_text("not a folder")
    worker = hire()
    epochs = worker.run_path(tiny_settings())
    worker.writer.flush()
    assert numbers(epochs) == straight(tiny_settings())
    assert list(worker.notes) == words


def test_a_run_that_diverged_has_the_same_end_again(hire: Hire, trained: list[int]) -> None:
    settings = tiny_settings(optimizer={"name": "sgd", "lr": 1e30})
    with pytest.raises(DivergedError) as first:
        hire().run_path(settings)
    count = len(trained)
    with pytest.raises(DivergedError) as again:
        hire().run_path(settings)
    assert str(again.value) == str(first.value)
    assert len(trained) == count


def test_a_stage_without_an_ap_is_an_end(hire: Hire, database: Database) -> None:
    worker = hire()
    key = worker.tree.plan(tiny_settings()).keys[0]
    stages = StageStore(database, None)
    stages.write([stages.recording(Stage(key, 1, {"epoch": 1, "val_ap": None}), None)])
    with pytest.raises(DivergedError, match="epoch 1"):
        worker.run_path(tiny_settings())


def test_a_trial_alone_shares_nothing(hire: Hire, trained: list[int], database: Database) -> None:
    store = StudyStore(database)
    study = store.open_study("planet")
    assert [study.ask()._trial_id for _ in range(2)] == [1, 2]
    worker = hire()
    shared = worker.tree.plan(tiny_settings())
    one, again, other = (worker.tree.plan(tiny_settings(), at, alone=True) for at in (1, 1, 2))
    assert one.keys == again.keys, "after an interruption it goes on"
    assert not set(one.keys) & set(other.keys)
    assert not set(one.keys) & set(shared.keys)

    runs = []
    for run_path in (one, other, shared):
        runs.append(list(worker.tree.epochs(run_path)))
        worker.tree.write(run_path)
    assert trained == [1, 2, 3] * 3
    assert numbers(runs[0]) == numbers(runs[1]) == numbers(runs[2])
    worker.tree.forget(one)
    assert worker.tree.plan(tiny_settings(), 1, alone=True).known == []
    assert len(worker.tree.plan(tiny_settings(), 2, alone=True).known) == 3
    predicted = trial_predictions(database, "planet", [0, 1])
    np.testing.assert_array_equal(predicted[0].logits, predicted[1].logits)


def test_what_is_kept_of_a_trial_s_predictions_gives_its_metrics(
    hire: Hire, database: Database
) -> None:
    store = StudyStore(database)
    number = store.open_study("planet").ask().number
    worker = hire()
    run_path = worker.tree.plan(tiny_settings(), stored_trial_id(store, "planet", number))
    *_, last = worker.go(run_path)

    kept = trial_predictions(database, "planet", [number])[number]

    scores = multilabel_metrics(
        torch.from_numpy(kept.logits),
        torch.from_numpy(kept.validation.targets),
        labels=kept.validation.labels,
    )
    assert scores.ap == last.metrics["val_ap"]
    assert scores.ap_per_label == last.metrics["val_ap_per_label"]


class Held:
    """A worker that is in the middle of an epoch, in a thread, until it is let go."""

    def __init__(self, worker: Worker, settings: TrainingSettings) -> None:
        self.worker = worker
        self.is_in_epoch = threading.Event()
        self.may_go_on = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._walk, args=[settings])
        self.thread.start()
        assert self.is_in_epoch.wait(HANG_S)

    def _walk(self, settings: TrainingSettings) -> None:
        def on_batch(*progress: int) -> None:
            self.is_in_epoch.set()
            assert self.may_go_on.wait(HANG_S)

        try:
            self.worker.run_path(settings, on_batch=on_batch)
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.error = error

    def let_go(self) -> None:
        self.may_go_on.set()
        self.thread.join(HANG_S)
        assert self.error is None

    def go_on_when_waited_for(self, waiting: Worker) -> None:
        waiting.notes.on_note = self.may_go_on.set


def test_the_second_waits_for_the_first_one_s_epochs(
    hire: Hire, trained: list[int], words: SnapshotAssertion
) -> None:
    held = Held(hire(), tiny_settings(gamma=0.9))
    second = hire()
    held.go_on_when_waited_for(second)
    epochs = second.run_path(tiny_settings(gamma=0.8))
    held.let_go()
    assert sorted(trained) == [1, 2, 2, 3, 3]
    assert list(second.notes) == words
    assert [epoch.is_new for epoch in epochs] == [False, True, True]
    trained.clear()
    assert numbers(epochs) == straight(tiny_settings(gamma=0.8))


def test_the_same_run_twice_at_once_is_trained_once(hire: Hire, trained: list[int]) -> None:
    held = Held(hire(), tiny_settings())
    second = hire()
    held.go_on_when_waited_for(second)
    epochs = second.run_path(tiny_settings())
    held.let_go()
    assert sorted(trained) == [1, 2, 3]
    trained.clear()
    assert numbers(epochs) == straight(tiny_settings())


def test_who_does_not_wait_is_told_so(hire: Hire) -> None:
    held = Held(hire(), tiny_settings())
    with pytest.raises(StageBusyError):
        hire().run_path(tiny_settings(gamma=0.8), wait=False)
    held.let_go()


def test_a_frozen_holder_is_passed_over_and_changes_nothing_when_it_wakes(
    hire: Hire, trained: list[int], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("canopy_search.storage.workers.registry.RECOVERY_S", 0.0)
    held = Held(hire(), tiny_settings())
    fall_silent(database, held.worker, LEASE_S + 1)  # and its connection stays
    second = hire()
    epochs = second.run_path(tiny_settings(gamma=0.8))
    held.let_go()

    assert sorted(trained) == [1, 1, 2, 2, 3, 3]
    key = second.tree.plan(tiny_settings()).keys[0]
    assert StageStore(database, None).known([key])[key].metrics == epochs[0].metrics


def fall_silent(database: Database, worker: Worker, silent_s: float) -> None:
    """Ends a worker's beats, the last of which was so long ago."""
    dying.fall_silent(worker.session)
    seen = "UPDATE canopy_worker SET seen = now() - :s * interval '1 second' WHERE id = :id"
    with database.engine.begin() as connection:
        values = {"s": silent_s, "id": worker.session.worker}
        connection.execute(sqlalchemy.text(seen), values)


def test_a_dead_holder_is_passed_over_soon(
    hire: Hire, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("canopy_search.storage.workers.registry.RECOVERY_S", 0.0)
    dead, worker = hire(), hire()
    key = worker.tree.plan(tiny_settings()).keys[0]
    assert StageStore(database, dead.session).acquire(key)
    with pytest.raises(StageBusyError):
        worker.run_path(tiny_settings(), wait=False)
    fall_silent(database, dead, GONE_S + 1)
    dying.die(database, dead.session)
    assert len(worker.run_path(tiny_settings())) == 3


def test_leases_are_given_back_where_a_walk_ends(hire: Hire) -> None:
    first, second = hire(), hire()
    with closing(first.tree.epochs(first.tree.plan(tiny_settings()))) as epochs:
        next(epochs)
    assert len(second.run_path(tiny_settings(), wait=False)) == 3


@pytest.mark.parametrize("left", ["memory", "checkpoint", "earlier checkpoint", "nothing"])
def test_a_run_is_tested_with_the_weights_of_its_end(
    hire: Hire, tmp_path: Path, trained: list[int], left: str
) -> None:
    settings = tiny_settings(seed=4)
    worker = hire()
    run_path = worker.tree.plan(settings)
    worker.go(run_path)
    if left != "memory":
        worker.writer.flush()
        gone = {
            "checkpoint": [],
            "earlier checkpoint": run_path.keys[2:],
            "nothing": run_path.keys,
        }[left]
        for file in tmp_path.glob("checkpoints/**/*.pt"):
            if file.name.partition(".")[0] in gone:
                file.unlink()
        worker = hire()
        run_path = worker.tree.plan(settings)
        worker.go(run_path)
    trained.clear()
    scores = worker.tree.test_scores(run_path)
    worker.tree.write(run_path)

    assert trained == {"earlier checkpoint": [3], "nothing": [1, 2, 3]}.get(left, [])
    alone, _ = straight_run(settings, [1] * settings.epochs)
    assert scores == alone.evaluate(tiny_dataset().split.test).as_dict("test", settings.loss)
    # The next run is another one, and begins where it has to.
    other = worker.run_path(tiny_settings(seed=5))
    assert numbers(other) == straight(tiny_settings(seed=5))


def test_building_restoring_and_saving_a_run_may_be_silent(
    hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, steps = [0.0], []

    def noted(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def note(*arguments: Any, **options: Any) -> Any:
            steps.append((name, heard[-1]))
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, note)

    for owner, name in (
        (TrainingRun, "__init__"),
        (TrainingRun, "restore"),
        (TrainingRun, "train_epoch"),
        (CheckpointWriter, "find"),
        (CheckpointWriter, "load"),
        (CheckpointWriter, "submit"),
    ):
        noted(owner, name)
    with heard_by(heard.append):
        hire().run_path(tiny_settings(gamma=0.9))
        hire().run_path(tiny_settings(gamma=0.8))
    assert {name for name, _ in steps} == {
        *("__init__", "restore", "train_epoch", "find", "load", "submit")
    }
    for name, silent_s in steps:
        assert silent_s == (0.0 if name == "train_epoch" else LONGEST_SILENCE_S), name
