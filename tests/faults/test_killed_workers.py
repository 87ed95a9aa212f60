"""``kill -9`` of workers, at every point of a trial, one after the other: nothing shows it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from search.objective import Objective, _Work
from storage.checkpoint_files import CheckpointFiles
from storage.desk import StudyDesk
from storage.worker_session import WorkerSession
from tests.faults.conftest import Facts, NewSearch
from tests.faults.deaths import Prepare, after, before, kill_self, nth_time, times
from tests.faults.invariants import check
from tests.faults.sleeping_run import SleepingRun

AT = (1, 3, 6)


def while_writing_a_checkpoint(counter: Path) -> Prepare:
    """Kills the process when half of a checkpoint is written."""

    def prepare() -> None:
        whole = CheckpointFiles._put

        def half(self: CheckpointFiles, path: str, content: bytes) -> None:
            if path.endswith(".pt") and nth_time(counter) in AT:
                beside = self._place.path(f"{path}.0123abcd.part")
                Path(beside).write_bytes(content[: len(content) // 2])
                kill_self()
            whole(self, path, content)

        CheckpointFiles._put = half  # type: ignore[method-assign]

    return prepare


def in_the_middle_of_an_epoch(counter: Path) -> Prepare:
    """Kills the process after a batch."""

    def prepare() -> None:
        original = SleepingRun.train_epoch

        def doomed(self: SleepingRun, on_batch: object = None) -> object:
            dies = nth_time(counter) in AT

            def batch(epoch: int, done: int, total: int) -> None:
                if dies and done == 2:
                    kill_self()
                on_batch(epoch, done, total)  # type: ignore[operator]

            return original(self, batch)

        SleepingRun.train_epoch = doomed  # type: ignore[assignment,method-assign]

    return prepare


POINTS: dict[str, Callable[[Path], Prepare]] = {
    "before it comes in": lambda c: before(WorkerSession, "come_in", c, (1, 2, 3)),
    "before it asks": lambda c: before(StudyDesk, "decide", c, AT),
    "while it decides": lambda c: before(StudyDesk, "_write", c, AT),
    "between asking and its first epoch": lambda c: before(Objective, "run_trial", c, AT),
    "in the middle of an epoch": in_the_middle_of_an_epoch,
    "after an epoch that is not reported": lambda c: after(SleepingRun, "train_epoch", c, AT),
    "while it writes a report": lambda c: before(StudyDesk, "write", c, AT),
    "after a report": lambda c: after(StudyDesk, "write", c, AT),
    "while it writes a checkpoint": while_writing_a_checkpoint,
    "after a checkpoint": lambda c: after(CheckpointFiles, "write", c, AT),
    "between the last report and the finish": lambda c: before(_Work, "end", c, AT),
    "after the finish": lambda c: after(Objective, "run_trial", c, AT),
}


WITHOUT_PRUNER = (
    "before it asks",
    "between asking and its first epoch",
    "in the middle of an epoch",
    "while it writes a checkpoint",
    "between the last report and the finish",
)
CASES = [*((point, "asha") for point in POINTS), *((point, "none") for point in WITHOUT_PRUNER)]


@pytest.mark.parametrize(("point", "pruner"), CASES)
def test_a_worker_that_is_killed_leaves_nothing_undone(
    new_search: NewSearch,
    undisturbed: Callable[..., Facts],
    tmp_path: Path,
    point: str,
    pruner: str,
) -> None:
    counter = tmp_path / "counter"
    search = new_search(pruner={"name": pruner}, prepare=POINTS[point](counter))
    begun = search.begin()
    kills = search.finish(deaths=3)
    assert kills == 3, f"{times(counter)} times"
    outcome = check(search, begun)
    assert outcome.repeated <= kills
    assert outcome.wasted <= 2 * kills
    assert outcome.facts() == undisturbed(pruner={"name": pruner})
