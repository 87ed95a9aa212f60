import io
import itertools
import re
import time
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console
from sqlalchemy.exc import OperationalError
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.study.model import StudyData
from canopy_search.search.cli.watch import watch_study
from canopy_search.storage.errors import UnknownStudyError
from tests.dashboards.summaries import at, study, trial, worker

RUNNING = study([trial(0, "RUNNING", 1)], [worker(41, 0, doing=at(0, 2, 8))], target=1)
FURTHER = study([trial(0, "RUNNING", 2)], [worker(41, 0, doing=at(0, 3, 0))], target=1)
LEAVING = study([trial(0, "COMPLETE", 3)], [worker(41)], target=1)
OVER = study([trial(0, "COMPLETE", 3)], [worker(41, end="left")], target=1)
AWAY = OperationalError("SELECT", {}, Exception("connection refused"))


def reading(*found: StudyData | BaseException) -> Callable[[], StudyData]:
    steps: Iterator[StudyData | BaseException] = iter(found)

    def read() -> StudyData:
        step = next(steps)
        if isinstance(step, BaseException):
            raise step
        return step

    return read


def watched(read: Callable[[], StudyData], *, terminal: bool = False) -> str:
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=80, height=24, color_system=None
    )
    watch_study(read, console, every_s=0.001)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def blocks(output: str) -> list[list[str]]:
    bare = re.sub(r"^\d\d:\d\d:\d\d ", "", output, flags=re.MULTILINE)
    return [block.splitlines() for block in bare.split("\n\n")]


def test_in_a_pipe_only_news_is_printed_and_the_end_ends_it(words: SnapshotAssertion) -> None:
    output = watched(reading(RUNNING, RUNNING, RUNNING, FURTHER, LEAVING, LEAVING, OVER))
    assert "\x1b" not in output
    found = blocks(output)
    assert [re.findall(r"(\d) (\w+)", block[0]) for block in found] == [
        [("0", "finished"), ("0", "complete"), ("0", "pruned"), ("1", "running")],
        [("0", "finished"), ("0", "complete"), ("0", "pruned"), ("1", "running")],
        [("1", "finished"), ("1", "complete"), ("0", "pruned")],
        [("1", "finished"), ("1", "complete"), ("0", "pruned")],
    ]
    assert found == words
    assert "forest" not in "\n".join(found[-1])


def test_a_worker_that_is_dead_is_no_news_for_long() -> None:
    dead = study([trial(0, "INTERRUPTED", 1)], [worker(41, end="died")])
    longer = study([trial(0, "INTERRUPTED", 1)], [worker(41, end="died", idle_s=1.0)])
    later = KeyboardInterrupt()
    assert len(blocks(watched(reading(dead, longer, dead, later)))) == 1


def test_a_database_that_is_away_is_told_once_and_waited_for() -> None:
    output = watched(reading(RUNNING, AWAY, AWAY, AWAY, OVER))
    assert output.count("the database is unavailable") == output.count("the database is back") == 1
    assert "1 finished" in output


def test_an_outage_is_shown_on_the_screen_too() -> None:
    output = watched(reading(AWAY, RUNNING, AWAY, OVER), terminal=True)
    assert output.count("the database is unavailable") == 2
    assert output.count("epoch 2 of 8, 40 %") >= 2


def test_the_screen_is_given_back_and_what_was_seen_last_stays(words: SnapshotAssertion) -> None:
    output = watched(reading(RUNNING, FURTHER, LEAVING, OVER), terminal=True)
    screen, after = output.split("\x1b[?1049l")  # back from the alternate screen
    assert "\x1b[?1049h" in screen
    assert "trial 0, epoch 3 of 8, 0 %" in screen
    assert "\x1b[2J" not in screen  # it never goes blank
    assert after == words


@pytest.mark.parametrize("terminal", [True, False])
def test_ctrl_c_ends_it_and_is_no_failure(terminal: bool) -> None:
    output = watched(reading(RUNNING, KeyboardInterrupt()), terminal=terminal)
    assert "1 running" in output.split("\x1b[?1049l")[-1]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_study_that_is_deleted_ends_it(terminal: bool) -> None:
    with pytest.raises(UnknownStudyError):
        watched(reading(RUNNING, UnknownStudyError("there is no study")), terminal=terminal)


def test_it_goes_on_while_nobody_works_and_the_study_is_not_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    begun = study([trial(0, "PRUNED", 1)], [worker(41, end="left")], target=2)
    watched(reading(*itertools.repeat(begun, 5), KeyboardInterrupt()))
    assert slept == [0.001] * 5
