"""``kill -9`` of workers, at every point of a trial, one after the other: nothing shows it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from canopy_search.search.trial.objective import Objective, _Work
from canopy_search.search.workers import loop as search_worker
from canopy_search.storage.stages.checkpoint_files import CheckpointFiles
from canopy_search.storage.study.trial_queue import TrialQueue
from canopy_search.storage.workers.session import WorkerSession
from tests.faults.conftest import Facts, NewSearch
from tests.faults.deaths import Prepare, after, before, kill_self, nth_time
from tests.faults.invariants import check
from tests.faults.searching import Search
from tests.faults.sleeping_run import SleepingRun

Times = tuple[int, ...]
"""The first, third … time that a point is come to, counted over all processes."""


def while_writing_a_checkpoint(counter: Path, at: Times) -> Prepare:
    """Kills the process when half of a checkpoint is written."""

    def prepare() -> None:
        whole = CheckpointFiles.write

        def half(self: CheckpointFiles, key: str, content: bytes) -> None:
            if nth_time(counter) in at:
                beside = self._place.path(self._name(f"{key}.pt.0123abcd.part"))
                Path(beside).write_bytes(content[: len(content) // 2])
                kill_self()
            whole(self, key, content)

        CheckpointFiles.write = half

    return prepare


def in_the_middle_of_an_epoch(counter: Path, at: Times) -> Prepare:
    """Kills the process after a batch."""

    def prepare() -> None:
        original = SleepingRun.train_epoch

        def doomed(self: SleepingRun, on_batch: object = None) -> object:
            dies = nth_time(counter) in at

            def batch(epoch: int, done: int, total: int) -> None:
                if dies and done == 2:
                    kill_self()
                on_batch(epoch, done, total)

            return original(self, batch)

        SleepingRun.train_epoch = doomed

    return prepare


POINTS: dict[str, Callable[[Path, Times], Prepare]] = {
    "before it comes in": lambda c, at: before(WorkerSession, "register", c, at),
    "before it asks": lambda c, at: before(TrialQueue, "locked", c, at),
    "while it decides": lambda c, at: before(TrialQueue, "_write", c, at),
    "between asking and its first epoch": lambda c, at: before(Objective, "run_trial", c, at),
    "in the middle of an epoch": in_the_middle_of_an_epoch,
    "after an epoch that is not reported": lambda c, at: after(SleepingRun, "train_epoch", c, at),
    "while it writes a report": lambda c, at: before(TrialQueue, "write", c, at),
    "after a report": lambda c, at: after(TrialQueue, "write", c, at),
    "while it writes a checkpoint": while_writing_a_checkpoint,
    "after a checkpoint": lambda c, at: after(CheckpointFiles, "write", c, at),
    "between the last report and the finish": lambda c, at: before(_Work, "end", c, at),
    "after the finish": lambda c, at: after(Objective, "run_trial", c, at),
}
PRUNERS = ("asha", "none")


def check_undisturbed(
    search: Search, points: Mapping[str, Prepare], expected: Facts, kills: int
) -> None:
    """Checks that a search whose workers are killed comes to what it comes to without."""

    def prepare() -> None:
        # On a busy machine one trial may meet more kills in a row than a deadly setting is given.
        search_worker.MOST_DEATHS = kills + 1
        for each in points.values():
            each()

    search.prepare = prepare
    begun = search.begin()
    assert search.finish(deaths=kills) == kills
    outcome = check(search, begun)
    assert outcome.repeated <= kills
    assert outcome.wasted <= 2 * kills
    assert outcome.facts() == expected


@pytest.mark.parametrize("pruner", [pytest.param("none", marks=pytest.mark.exhaustive), "asha"])
def test_a_search_that_is_killed_once_at_every_point_leaves_nothing_undone(
    new_search: NewSearch, undisturbed: Callable[..., Facts], tmp_path: Path, pruner: str
) -> None:
    # One after the other, each as soon as there is one more of its kind than before.
    points = {
        name: point(tmp_path / f"counter {name}", (1 + at // 3,))
        for at, (name, point) in enumerate(POINTS.items())
    }
    options = {"pruner": {"name": pruner}}
    check_undisturbed(new_search(**options), points, undisturbed(**options), len(POINTS))


@pytest.mark.exhaustive
@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_is_killed_three_times_leaves_nothing_undone(
    new_search: NewSearch,
    undisturbed: Callable[..., Facts],
    tmp_path: Path,
    point: str,
    pruner: str,
) -> None:
    at = (1, 2, 3) if point == "before it comes in" else (1, 3, 6)
    points = {point: POINTS[point](tmp_path / "counter", at)}
    options = {"pruner": {"name": pruner}}
    check_undisturbed(new_search(**options), points, undisturbed(**options), 3)
