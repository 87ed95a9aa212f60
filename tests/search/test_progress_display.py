import io
import re

import pytest
from optuna.trial import TrialState
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.console import open_console
from canopy_search.search.events import (
    BatchDone,
    Ending,
    EpochDone,
    Event,
    Note,
    Progress,
    SearchStarted,
    SharedPrefix,
    TrialEnded,
    TrialStarted,
    WorkerEnded,
)
from canopy_search.search.progress_display import LineScreen, LiveScreen, open_screen


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)


SMALL, LARGE = ({"backbone": "tinycnn_8", "gamma": 0.95}, {"backbone": "tinycnn_16", "gamma": 0.8})
OTHER = {"backbone": "tinycnn_16", "gamma": 1.0}
COMPLETE = TrialEnded(0, SMALL, TrialState.COMPLETE, 0.5, 8, 8, 61.0, 1, 0.5)
EVENTS: list[Event] = [
    Progress("decoding images", 10, 10),
    SearchStarted("demo", 0, 3, None),
    TrialStarted(0, SMALL),
    BatchDone(1, 1, 4),
    EpochDone(1, 8, 0.4),
    COMPLETE,
    TrialStarted(1, LARGE, 2),
    EpochDone(3, 8, 0.3, 0.4),
    TrialEnded(1, LARGE, TrialState.RUNNING, 0.3, 3, 1, 2.0, 1, 0.5),
    TrialStarted(1, LARGE, 3, SharedPrefix(2, 0)),
    TrialEnded(
        1, LARGE, TrialState.PRUNED, 0.31234, 4, 1, 8.0, 2, 0.5, "median", SharedPrefix(2, 0)
    ),
    TrialStarted(2, OTHER, 0, SharedPrefix(1, 7, "planet")),
    TrialEnded(
        2,
        OTHER,
        TrialState.FAIL,
        None,
        1,
        0,
        0.0,
        2,
        0.5,
        "RuntimeError: x",
        SharedPrefix(1, 7, "planet"),
    ),
]


def play(screen: LineScreen) -> None:
    """One search of three trials."""
    for event in EVENTS:
        screen.emit(event)
    screen.close()


def output_of(screen: LineScreen) -> str:
    file = screen.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_lines_without_control_characters(words: SnapshotAssertion) -> None:
    screen = open_screen(console(terminal=False))
    assert type(screen) is LineScreen
    play(screen)
    output = output_of(screen)
    assert "\x1b" not in output
    _, _, *trials = (line.split()[:5] for line in output.splitlines())
    assert [each[:4] for each in trials if each[0] != "trial"] == [
        ["[1/3]", "trial", "0", "complete"],
        ["[1/3]", "trial", "1", "paused"],
        ["[2/3]", "trial", "1", "pruned"],
        ["[2/3]", "trial", "2", "failed"],
    ]
    for number in (".5000", "8 epochs", "1 min 01 s", ".3123", "RuntimeError: x"):
        assert output.count(number) == 1
    assert output == words


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "variable"), [(Terminal, "CI"), (io.StringIO, "FORCE_COLOR")])
def test_ci_and_pipes_are_plain_whatever_else_is_set(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    output = stream()
    monkeypatch.setattr("sys.stdout", output)
    screen = open_screen(open_console())
    assert type(screen) is LineScreen
    play(screen)
    assert "best so far" in output.getvalue()
    assert "\x1b" not in output.getvalue()


def test_a_long_epoch_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = LineScreen(console(terminal=False))
    monkeypatch.setattr("canopy_search.search.progress_display.EPOCH_LINE_AFTER_S", -1)
    screen.emit(EpochDone(3, 8, 0.4))
    assert output_of(screen) == "  epoch 3 of 8  AP .4000\n"


def test_what_several_workers_say_is_printed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    screen = LineScreen(Console(file=stream, width=80))
    now_s = 100.0
    monkeypatch.setattr("canopy_search.search.progress_display.time.monotonic", lambda: now_s)
    for worker in ("worker 1", "worker 2"):
        screen.show(worker, Note("the database is away"))
    screen.show("worker 1", Note("the database is away"))  # the same worker repeats it
    now_s += 61
    screen.show("worker 2", Note("the database is away"))
    assert stream.getvalue().count("the database is away") == 3


def test_a_terminal_shows_the_search_and_the_running_trial(
    monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = open_screen(console(terminal=True))
    assert isinstance(screen, LiveScreen)
    screen.emit(SearchStarted("demo", 0, 2, None))
    begun = screen.lines()
    screen.emit(TrialStarted(0, {"backbone": "tinycnn_8"}))
    screen.emit(EpochDone(1, 8, 0.4, 0.45))
    screen.emit(BatchDone(2, 1, 4))
    running = screen.lines()
    for number in ("0 of 2", "trial 0", "tinycnn_8", "epoch 2", "25 %", ".4000"):
        assert number in running
    screen.emit(COMPLETE)
    ended = screen.lines()
    assert "1 of 2" in ended
    assert ".5000" in ended
    # How long it took and will take is the clock's.
    texts = [re.sub(r"\d+( min \d+)? s\b", "TIME", text) for text in (begun, running, ended)]
    assert [[line.rstrip() for line in text.splitlines()] for text in texts] == words
    screen.close()
    assert "best so far" in output_of(screen)


def test_what_a_worker_prepares_is_shown_in_its_line_beside_the_others() -> None:
    lines = LineScreen(console(terminal=False))
    lines.show("worker 2 on gpu-3", Progress("decoding images", 10, 10))
    (line,) = output_of(lines).splitlines()
    assert line.startswith("worker 2 on gpu-3: decoding")
    live = LiveScreen(console(terminal=True))
    live.emit(SearchStarted("demo", 0, 3, None))
    live.show("worker 1 on gpu-1", TrialStarted(7, {"gamma": 0.9}))
    live.show("worker 2 on gpu-3", Progress("decoding images", 5, 10))
    _, first, second = live.lines().splitlines()
    assert first.startswith("worker 1 on gpu-1  trial 7")
    assert re.match(r"worker 2 on gpu-3 +decoding .*━", second)
    live.show("worker 2 on gpu-3", Progress("decoding images", 10, 10))
    assert "decoding" not in live.lines()
    live.show("worker 1 on gpu-1", WorkerEnded(Ending.DIED))
    assert "trial 7" not in live.lines()
    live.close()
