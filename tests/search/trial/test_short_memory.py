"""The stage tree where memory runs out: batches are cut, and the walk takes another branch."""

from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import StageBusyError
from canopy_search.search.trial.stage_tree import RunEpoch, RunPath
from canopy_search.storage.database import Database
from canopy_search.storage.stages.stages import StageStore
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.session import worker_session
from canopy_search.training import run as training_run
from canopy_search.training.device import device_cache as image_cache
from canopy_search.training.errors import OutOfMemoryError
from canopy_search.training.optimization.accumulation import Accumulation
from canopy_search.training.stage_key import stage_keys
from tests.search.trial.tree_worker import (
    Hire,
    Worker,
    numbers,
    straight_run,
    tiny_dataset,
    tiny_settings,
    weights_digest,
)
from tests.short_memory import ShortMemory

Cut = list[tuple[int, int]]


def accumulation(*entries: tuple[int, int]) -> list[Accumulation]:
    return [Accumulation(*entry) for entry in entries]


def cuts(run_path: RunPath) -> Cut:
    return [(each.from_epoch, each.steps) for each in run_path.accumulation]


def walk_with(
    worker: Worker, run_path: RunPath, memory: ShortMemory, limits: dict[int, int], **options: Any
) -> list[RunEpoch]:
    """Walks; from each epoch of `limits` on, so many images fit."""
    walked = []
    memory.training_images = limits.get(1)
    for step in worker.tree.epochs(run_path, **options):
        worker.tree.write(run_path)
        walked.append(step)
        memory.training_images = limits.get(len(walked) + 1, memory.training_images)
    memory.training_images = None
    return walked


def walk_some(worker: Worker, run_path: RunPath, epochs: int) -> None:
    """Walks to an epoch in the middle, and forgets where it was."""
    with closing(worker.tree.epochs(run_path)) as steps:
        for _ in range(epochs):
            next(steps)
            worker.tree.write(run_path)
    worker.tree.drop()


HALVED = "out of memory at batch 8; continues with 2 × 4"
QUARTERED = "out of memory at batch 2 × 4; continues with 4 × 2"


class Shortage(NamedTuple):
    """When memory runs out, and what follows.

    Attributes:
        limits: epoch → images that fit from then on.
        cut: from which epoch on batches are split into how many.
        steps: micro-batches of a batch in each epoch.
        notes: what the user reads.
    """

    limits: dict[int, int]
    cut: Cut
    steps: list[int]
    notes: list[str]


@pytest.mark.parametrize(
    "shortage",
    [
        Shortage({1: 4}, [(1, 2)], [2, 2, 2, 2], [HALVED]),
        Shortage({3: 4}, [(3, 2)], [1, 1, 2, 2], [HALVED]),
        Shortage({2: 4, 4: 2}, [(2, 2), (4, 4)], [1, 2, 2, 4], [HALVED, QUARTERED]),
        Shortage({2: 2}, [(2, 4)], [1, 4, 4, 4], [HALVED, QUARTERED]),
    ],
    ids=lambda shortage: str(shortage.limits),
)
def test_batches_are_cut_from_the_epoch_on_where_memory_ran_out(
    hire: Hire, memory: ShortMemory, shortage: Shortage
) -> None:
    limits, cut, steps, notes = shortage
    worker, settings = hire(), tiny_settings(epochs=4, gamma=0.9)
    run_path = worker.tree.plan(settings)
    walked = walk_with(worker, run_path, memory, limits)

    assert cuts(run_path) == cut
    assert worker.notes == notes
    assert run_path.trained == 4
    assert [step.key for step in walked] == run_path.keys
    assert run_path.keys == stage_keys(settings, tiny_dataset(), run_path.accumulation)
    assert all(step.is_new for step in walked)
    assert numbers(walked) == straight_run(settings, steps)[1]


@pytest.mark.parametrize("is_lost", [False, True], ids=["checkpoints", "lost"])
def test_another_process_goes_on_in_the_middle_of_a_branch(
    hire: Hire, memory: ShortMemory, trained: list[int], tmp_path: Path, *, is_lost: bool
) -> None:
    settings = tiny_settings(epochs=5, gamma=0.9)
    first = hire()
    run_path = first.tree.plan(settings)
    with closing(first.tree.epochs(run_path)) as epochs:
        for limit in (4, 4, None):
            next(epochs)
            first.tree.write(run_path)
            memory.training_images = limit
    first.writer.flush()
    trained.clear()
    for path in tmp_path.glob("checkpoints/*/*.pt") if is_lost else ():
        path.unlink()

    other = hire()
    again = other.tree.plan(settings, accumulation=run_path.accumulation)
    walked = other.go(again)
    assert cuts(again) == [(2, 2)]
    assert [step.is_new for step in walked] == [False] * 3 + [True] * 2
    assert trained == ([1, 2, 3, 4, 5] if is_lost else [4, 5])
    run, metrics = straight_run(settings, [1, 2, 2, 2, 2])
    assert numbers(walked) == metrics
    assert other.tree._position is not None
    assert weights_digest(other.tree._position.run) == weights_digest(run)


def test_an_epoch_that_is_trained_again_may_have_no_room_either(
    hire: Hire, memory: ShortMemory
) -> None:
    settings = tiny_settings(epochs=3)
    worker = hire(budget_bytes=10)  # no checkpoint
    walk_some(worker, worker.tree.plan(settings), 2)

    other = hire(budget_bytes=10)
    run_path = other.tree.plan(settings)
    assert len(run_path.known) == 2
    walked = walk_with(other, run_path, memory, {1: 4})
    assert cuts(run_path) == [(1, 2)]
    assert [step.is_new for step in walked] == [False, False, True]
    assert numbers(walked)[2] == straight_run(settings, [2, 2, 2])[1][2]

    again = other.tree.plan(settings, accumulation=run_path.accumulation)
    assert len(again.known) == 3, "whoever goes on knows the branch from its first epoch on"


def test_a_branch_that_somebody_trained_is_replayed(hire: Hire, memory: ShortMemory) -> None:
    settings = tiny_settings(epochs=4)
    first, second = hire(), hire()
    one = walk_with(first, first.tree.plan(settings), memory, {3: 4})
    run_path = second.tree.plan(settings)
    assert len(run_path.known) == 2
    memory.shortages = 0
    other = walk_with(second, run_path, memory, {1: 4})
    assert memory.shortages == 1
    assert not any(step.is_new for step in other)
    assert numbers(one) == numbers(other)
    assert run_path.trained == 0


def test_who_would_wait_for_the_branch_is_told_so(
    hire: Hire, memory: ShortMemory, database: Database
) -> None:
    worker, settings = hire(), tiny_settings()
    key = stage_keys(settings, tiny_dataset(), accumulation((1, 2)))[0]
    with worker_session(database.url) as session:
        assert StageStore(database, session).acquire(key)
        run_path = worker.tree.plan(settings)
        with pytest.raises(StageBusyError):
            walk_with(worker, run_path, memory, {1: 4}, wait=False)
    assert cuts(run_path) == [(1, 2)]


def test_the_cut_is_told_before_anything_of_the_branch_is_recorded(
    hire: Hire, memory: ShortMemory, database: Database
) -> None:
    worker = hire()
    run_path = worker.tree.plan(tiny_settings())
    whole = list(run_path.keys)
    told: list[str] = []

    with worker_session(database.url) as session:
        other = StageStore(database, session)

        def on_cut(text: str) -> None:
            told.append(text)
            assert cuts(run_path) == [(2, 2)]
            assert other.known(run_path.keys).keys() == {whole[0]}
            assert other.acquire(whole[1]), "others may have the memory that this worker lacks"

        walk_with(worker, run_path, memory, {2: 4}, on_cut=on_cut)
    assert told == [HALVED]
    assert worker.notes == []


def test_what_cannot_be_cut_any_finer_is_an_end(
    hire: Hire, memory: ShortMemory, trained: list[int], words: SnapshotAssertion
) -> None:
    worker = hire()
    run_path = worker.tree.plan(tiny_settings())
    with pytest.raises(OutOfMemoryError) as caught:
        walk_with(worker, run_path, memory, {2: 1})
    assert str(caught.value) == words
    assert caught.value.epoch == 2
    assert trained == [1, 2, 2, 2]
    memory.training_images = None
    assert len(hire().run_path(tiny_settings(), wait=False)) == 3, "no lease is left"


def test_a_broken_run_is_not_gone_on_with(hire: Hire, memory: ShortMemory) -> None:
    settings = tiny_settings(epochs=3)
    worker = hire(budget_bytes=10)
    walk_some(worker, worker.tree.plan(settings), 2)
    # Only the second step of the third epoch fails, after epochs 1 and 2 were trained again.
    steps: list[int] = []

    def fail_late(*progress: int) -> None:
        steps.append(1)
        if len(steps) == 6:
            raise RuntimeError("no luck")

    with pytest.raises(RuntimeError):
        worker.run_path(settings, on_batch=fail_late)
    assert numbers(worker.run_path(settings)) == straight_run(settings, [1, 1, 1])[1]


def test_a_network_is_gone_before_the_next_one_is_built(
    hire: Hire, memory: ShortMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = memory.build_backbone
    alive: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        alive.append(sum(model() is not None for model in memory.models))
        return build(*arguments, **options)

    monkeypatch.setattr(training_run, "build_backbone", counted)
    worker = hire()
    walk_with(worker, worker.tree.plan(tiny_settings()), memory, {2: 2})
    assert alive == [0, 0, 0]


def test_images_leave_the_device_before_a_batch_is_cut(
    hire: Hire, memory: ShortMemory, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    """On the CPU, where ``auto`` has been made to hold images, as if they took all the room."""
    monkeypatch.setattr(image_cache, "_may_cache", lambda data, _device: data not in given_up)
    given_up = image_cache._GIVEN_UP
    release = image_cache.release_images

    def release_and_make_room(*arguments: Any) -> bool:
        memory.training_images = None
        return release(*arguments)

    monkeypatch.setattr(training_run, "release_images", release_and_make_room)
    worker, settings = hire(), tiny_settings()
    run_path = worker.tree.plan(settings)
    walked = walk_with(worker, run_path, memory, {2: 4})

    assert list(worker.notes) == words
    assert (memory.shortages, cuts(run_path)) == (1, [])
    assert numbers(walked) == straight_run(settings, [1, 1, 1])[1]


def test_a_trial_alone_forgets_both_branches(
    hire: Hire, memory: ShortMemory, database: Database
) -> None:
    store = StudyStore(database)
    trial_id = store.open_study("planet").ask()._trial_id
    settings = tiny_settings()
    worker = hire(budget_bytes=10)
    walk_some(worker, worker.tree.plan(settings, trial_id, alone=True), 2)
    run_path = worker.tree.plan(settings, trial_id, alone=True)
    walk_with(worker, run_path, memory, {1: 4})
    assert cuts(run_path) == [(1, 2)]
    assert StageStore(database, None).count() == 3
    worker.tree.forget(run_path)
    assert StageStore(database, None).count() == 0


def test_what_is_missing_elsewhere_than_in_a_step_cuts_no_batches(
    hire: Hire, memory: ShortMemory
) -> None:
    worker = hire()
    run_path = worker.tree.plan(tiny_settings())
    memory.evaluation_images = 0
    with pytest.raises(OutOfMemoryError):
        list(worker.tree.epochs(run_path))
    assert cuts(run_path) == []
