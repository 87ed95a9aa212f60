"""The stage tree where memory runs out: batches are cut, and the walk takes another branch."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import StageBusyError
from canopy_search.search.stage_tree import Walk, WalkedEpoch
from canopy_search.storage.database import Database
from canopy_search.storage.stages import StageStore
from canopy_search.storage.studies import StudyStore
from canopy_search.storage.worker_session import worker_session
from canopy_search.training import device_cache
from canopy_search.training import run as training_run
from canopy_search.training.accumulation import Accumulation
from canopy_search.training.errors import OutOfMemoryError
from canopy_search.training.stage_key import stage_keys
from tests.search.tree_worker import (
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


def cuts(walk: Walk) -> Cut:
    return [(each.from_epoch, each.steps) for each in walk.accumulation]


def walk_with(
    worker: Worker, walk: Walk, memory: ShortMemory, limits: dict[int, int], **options: Any
) -> list[WalkedEpoch]:
    """Walks; from each epoch of `limits` on, so many images fit."""
    walked = []
    memory.training_images = limits.get(1)
    for step in worker.tree.epochs(walk, **options):
        worker.tree.write(walk)
        walked.append(step)
        memory.training_images = limits.get(len(walked) + 1, memory.training_images)
    memory.training_images = None
    return walked


def walk_some(worker: Worker, walk: Walk, epochs: int) -> None:
    """Walks to an epoch in the middle, and forgets where it was."""
    with closing(worker.tree.epochs(walk)) as steps:
        for _ in range(epochs):
            next(steps)
            worker.tree.write(walk)
    worker.tree.drop()


HALVED = "out of memory at batch 8; goes on with 2 × 4"
QUARTERED = "out of memory at batch 2 × 4; goes on with 4 × 2"


@pytest.mark.parametrize(
    ("limits", "cut", "steps", "notes"),
    [
        ({1: 4}, [(1, 2)], [2, 2, 2, 2], [HALVED]),
        ({3: 4}, [(3, 2)], [1, 1, 2, 2], [HALVED]),
        ({2: 4, 4: 2}, [(2, 2), (4, 4)], [1, 2, 2, 4], [HALVED, QUARTERED]),
        ({2: 2}, [(2, 4)], [1, 4, 4, 4], [HALVED, QUARTERED]),
    ],
    ids=str,
)
def test_batches_are_cut_from_the_epoch_on_where_memory_ran_out(
    hire: Hire,
    memory: ShortMemory,
    *,
    limits: dict[int, int],
    cut: Cut,
    steps: list[int],
    notes: list[str],
) -> None:
    worker, settings = hire(), tiny_settings(epochs=4, gamma=0.9)
    walk = worker.tree.plan(settings)
    walked = walk_with(worker, walk, memory, limits)

    assert cuts(walk) == cut
    assert worker.notes == notes
    assert walk.trained == 4
    assert [step.key for step in walked] == walk.keys
    assert walk.keys == stage_keys(settings, tiny_dataset(), walk.accumulation)
    assert all(step.is_new for step in walked)
    assert numbers(walked) == straight_run(settings, steps)[1]


@pytest.mark.parametrize("is_lost", [False, True], ids=["checkpoints", "lost"])
def test_another_process_goes_on_in_the_middle_of_a_branch(
    hire: Hire, memory: ShortMemory, trained: list[int], tmp_path: Path, *, is_lost: bool
) -> None:
    settings = tiny_settings(epochs=5, gamma=0.9)
    first = hire()
    walk = first.tree.plan(settings)
    with closing(first.tree.epochs(walk)) as epochs:
        for limit in (4, 4, None):
            next(epochs)
            first.tree.write(walk)
            memory.training_images = limit
    first.writer.flush()
    trained.clear()
    for path in tmp_path.glob("checkpoints/*/*.pt") if is_lost else ():
        path.unlink()

    other = hire()
    again = other.tree.plan(settings, accumulation=walk.accumulation)
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
    walk = other.tree.plan(settings)
    assert len(walk.known) == 2
    walked = walk_with(other, walk, memory, {1: 4})
    assert cuts(walk) == [(1, 2)]
    assert [step.is_new for step in walked] == [False, False, True]
    assert numbers(walked)[2] == straight_run(settings, [2, 2, 2])[1][2]

    again = other.tree.plan(settings, accumulation=walk.accumulation)
    assert len(again.known) == 3, "whoever goes on knows the branch from its first epoch on"


def test_a_branch_that_somebody_trained_is_replayed(hire: Hire, memory: ShortMemory) -> None:
    settings = tiny_settings(epochs=4)
    first, second = hire(), hire()
    one = walk_with(first, first.tree.plan(settings), memory, {3: 4})
    walk = second.tree.plan(settings)
    assert len(walk.known) == 2
    memory.shortages = 0
    other = walk_with(second, walk, memory, {1: 4})
    assert memory.shortages == 1
    assert not any(step.is_new for step in other)
    assert numbers(one) == numbers(other)
    assert walk.trained == 0


def test_who_would_wait_for_the_branch_is_told_so(
    hire: Hire, memory: ShortMemory, database: Database
) -> None:
    worker, settings = hire(), tiny_settings()
    key = stage_keys(settings, tiny_dataset(), accumulation((1, 2)))[0]
    with worker_session(database.url) as session:
        assert StageStore(database, session).acquire(key)
        walk = worker.tree.plan(settings)
        with pytest.raises(StageBusyError):
            walk_with(worker, walk, memory, {1: 4}, wait=False)
    assert cuts(walk) == [(1, 2)]


def test_the_cut_is_told_before_anything_of_the_branch_is_recorded(
    hire: Hire, memory: ShortMemory, database: Database
) -> None:
    worker = hire()
    walk = worker.tree.plan(tiny_settings())
    whole = list(walk.keys)
    told: list[str] = []

    with worker_session(database.url) as session:
        other = StageStore(database, session)

        def on_cut(text: str) -> None:
            told.append(text)
            assert cuts(walk) == [(2, 2)]
            assert other.known(walk.keys).keys() == {whole[0]}
            assert other.acquire(whole[1]), "others may have the memory that this worker lacks"

        walk_with(worker, walk, memory, {2: 4}, on_cut=on_cut)
    assert told == [HALVED]
    assert worker.notes == []


def test_what_cannot_be_cut_any_finer_is_an_end(
    hire: Hire, memory: ShortMemory, trained: list[int], words: SnapshotAssertion
) -> None:
    worker = hire()
    walk = worker.tree.plan(tiny_settings())
    with pytest.raises(OutOfMemoryError) as caught:
        walk_with(worker, walk, memory, {2: 1})
    assert str(caught.value) == words
    assert caught.value.epoch == 2
    assert trained == [1, 2, 2, 2]
    memory.training_images = None
    assert len(hire().walk(tiny_settings(), wait=False)) == 3, "no lease is left"


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
        worker.walk(settings, on_batch=fail_late)
    assert numbers(worker.walk(settings)) == straight_run(settings, [1, 1, 1])[1]


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
    monkeypatch.setattr(device_cache, "_pays", lambda data, _device: data not in given_up)
    given_up = device_cache._GIVEN_UP
    release = device_cache.release_images

    def release_and_make_room(*arguments: Any) -> bool:
        memory.training_images = None
        return release(*arguments)

    monkeypatch.setattr(training_run, "release_images", release_and_make_room)
    worker, settings = hire(), tiny_settings()
    walk = worker.tree.plan(settings)
    walked = walk_with(worker, walk, memory, {2: 4})

    assert list(worker.notes) == words
    assert (memory.shortages, cuts(walk)) == (1, [])
    assert numbers(walked) == straight_run(settings, [1, 1, 1])[1]


def test_a_trial_alone_forgets_both_branches(
    hire: Hire, memory: ShortMemory, database: Database
) -> None:
    store = StudyStore(database)
    trial_id = store.trial_id("planet", store.open_study("planet").ask().number)
    settings = tiny_settings()
    worker = hire(budget_bytes=10)
    walk_some(worker, worker.tree.plan(settings, trial_id, alone=True), 2)
    walk = worker.tree.plan(settings, trial_id, alone=True)
    walk_with(worker, walk, memory, {1: 4})
    assert cuts(walk) == [(1, 2)]
    assert StageStore(database, None).count() == 3
    worker.tree.forget(walk)
    assert StageStore(database, None).count() == 0
