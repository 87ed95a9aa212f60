import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.study.model import StudyData
from canopy_search.dashboards.terminal.watch_screen import watch_screen
from tests.dashboards.summaries import at, study, trial, worker


def lines_of(summary: StudyData, width: int = 80, height: int = 24, note: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(watch_screen(summary, height, note))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_screen_of_a_search(words: SnapshotAssertion) -> None:
    trials = [
        trial(0, "COMPLETE", 8),
        trial(1, "PAUSED", 4),
        trial(2, "RUNNING", 3),
        trial(3, "RUNNING"),
        trial(4, "INTERRUPTED", 1),
        trial(5, "FAIL", reason="RuntimeError: out of memory"),
    ]
    workers = [
        worker(41, 2, doing=at(2, 4, 8)),
        worker(42, 3, idle_s=12.0, stuck_s=None),
        worker(43),
        worker(44, end="died", idle_s=61.0),
        worker(45, end="left", idle_s=4000.0),
        worker(46, end="died", idle_s=4000.0),
    ]
    lines = lines_of(study(trials, workers, control="pause"))
    assert "2 of 20" in lines[0]
    assert "AP .8000: trial 0, " in lines[2]
    rows = [line.split() for line in lines if line.startswith("forest")]
    assert [(row[2], row[-1]) for row in rows] == [
        ("41", "works"),
        ("42", "silent"),
        ("43", "waits"),
        ("44", "died"),
    ]
    assert [line.split()[0] for line in lines if line.endswith(("  41", "  42"))] == ["2", "3"]
    assert "\n".join(lines) == words


def test_a_study_that_nobody_works_on(words: SnapshotAssertion) -> None:
    lines = lines_of(
        study([trial(0, "PRUNED", 1)], []), note="12:00:00 the database is unavailable"
    )
    assert "1 of 20" in lines[0]
    assert lines[2] == "12:00:00 the database is unavailable"
    assert "\n".join(lines) == words


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 22), (200, 60)])
def test_many_workers_fit_the_terminal(width: int, height: int) -> None:
    name = "a-host-with-a-very-long-name.and.a.domain.example"
    workers = [worker(100_000 + at_, at_, host=name, doing=at(at_, 3, 8)) for at_ in range(100)]
    workers += [worker(4_194_304 - at_, end="answers no more") for at_ in range(100)]
    trials = [trial(number, "RUNNING", 1) for number in range(100)]
    trials += [trial(100 + number, "FAIL", reason="x" * 300) for number in range(9)]
    lines = lines_of(study(trials, workers), width, height)
    assert max(cell_len(line) for line in lines) <= width
    assert len(lines) <= height
    assert any(line.endswith("more") for line in lines)
    assert lines[-1].startswith("6 trials ")
    assert sum("trial 0, epoch" in line for line in lines) == 1


def test_markup_in_names_is_shown_as_it_is() -> None:
    lines = lines_of(study([], [worker(1, host="[red]host[/]")]))
    assert any("[red]host[/]" in line for line in lines)
