"""Nothing that other machines, files or servers name can control the terminal."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

import canopy_search.search.console as door
from canopy_search.search.console import log_console, open_console, say, write
from canopy_search.search.events import Note, SearchStarted, TrialStarted
from canopy_search.search.progress_display import LiveScreen

HARMFUL = [
    *("\x1b[31m", "\x1b]0;title\x07", "\x9b2J", "\x07", "\x08", "\r", "\x7f", "\x85", "\x00"),
    *("\u202e", "\u2066", "\u2028", "\udc9b"),
]
LEFT = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


Show = Callable[[bool], Callable[[], str]]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Show:
    """Makes standard output a terminal or a pipe; that returns what was printed."""

    def become(is_terminal: bool) -> Callable[[], str]:
        monkeypatch.delenv("CI", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
        return lambda: capsys.readouterr().out

    return become


def without_colours(text: str) -> str:
    """Leaves out what rich itself sends to a terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text)


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("evil", HARMFUL, ids=ascii)
def test_nothing_harmful_is_printed(evil: str, is_terminal: bool, show: Show) -> None:
    printed_text = show(is_terminal)
    name = f"node{evil}x"
    console = open_console()
    table = Table(title=name)
    table.add_column(name)
    table.add_row(Text(name))
    console.print(f"plain {name}")
    console.print(Text(name))
    console.print(table)
    say(name)
    printed = without_colours(printed_text())
    assert LEFT.search(printed) is None
    assert printed.count("node") == 6


def test_the_live_screen_stays_where_it_is(show: Show) -> None:
    printed_text = show(True)
    evil = "\x1b[2J\nstudy demo: 8 of 8 trials finished"
    console = open_console()
    screen = LiveScreen(console)
    try:
        screen.show("", SearchStarted(f"demo{evil}", 0, 3, None))
        for worker in ("a", "b"):
            screen.show(worker + evil, TrialStarted(0, {"backbone": evil}))
            screen.show(worker + evil, Note(f"lost {evil}"))
        assert screen.lines().count("\n") == 2
        assert "\x1b[2J" not in screen.lines()
    finally:
        screen.close()
    printed = printed_text()
    assert "\x1b[2J" not in printed
    assert not re.search(r"^study demo: 8 of 8", without_colours(printed), re.MULTILINE)


def test_a_line_stays_one_line_and_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    say("study a\nstudy b: complete", "next", err=True)
    open_console().print("study [/x] [red]y[/red] :fire:")
    printed = capsys.readouterr()
    assert printed.err == "study a study b: complete\nnext\n"
    assert printed.out == "study [/x] [red]y[/red] :fire:\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_document_is_unchanged_except_on_a_terminal(is_terminal: bool, show: Show) -> None:
    printed_text = show(is_terminal)
    write("a: \x1b[2J\nb: 2\n")
    shown = "\N{REPLACEMENT CHARACTER}" if is_terminal else "\x1b"
    assert printed_text() == f"a: {shown}[2J\nb: 2\n"


def test_a_log_is_harmless_too() -> None:
    log = io.StringIO()
    log_console(log).print("lost \x1b[2J")
    assert log.getvalue() == "lost \N{REPLACEMENT CHARACTER}[2J\n"


def test_names_in_every_alphabet_are_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["Größe", "日本語", "می‌خواهم", "👩‍🔬", "a b", "עברית"]
    say(*names)
    assert capsys.readouterr().out.split("\n") == [*names, ""]


def test_nothing_else_opens_a_console() -> None:
    folder = Path(door.__file__).parent.parent
    files = {
        path.relative_to(folder).as_posix(): path.read_text()
        for room in ("search", "dashboards", "training", "storage", "filestore")
        for path in (folder / room).rglob("*.py")
    }
    opens = {name for name, text in files.items() if re.search(r"=.*\bConsole\(", text)}
    assert opens <= {"search/console.py"}
