"""Watching a study: a screen on a terminal, a block of lines elsewhere, from the database alone."""

import math
import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from canopy_search.dashboards.study.summary import StudySummary
from canopy_search.dashboards.terminal.status import status_lines
from canopy_search.dashboards.terminal.watch_screen import watch_screen
from canopy_search.search.progress_display import is_live
from canopy_search.storage.connection.retry import RetryPolicy


def watch_study(read: Callable[[], StudySummary], console: Console, every_s: float) -> None:
    """Shows a study until it is over and nobody works on it, or until Ctrl-C.

    A database that is away is waited for, however long: who watches has nothing to lose.

    Args:
        read: returns the study as it is.
        console: where it is shown.
        every_s: seconds between two looks.

    Raises:
        UnknownStudyError: the study was deleted.
    """
    view = _LiveView(console) if is_live(console) else _BlockView(console)
    retry_policy = RetryPolicy(math.inf, note=view.note)
    try:
        while True:
            summary = retry_policy.call(read)
            view.show(summary)
            if summary.is_over and not summary.is_searched:
                return
            time.sleep(every_s)
    except KeyboardInterrupt:
        return
    finally:
        view.close()


class _View(Protocol):
    """What a study is shown on."""

    def show(self, summary: StudySummary) -> None:
        """Shows how the study is now."""

    def note(self, text: str) -> None:
        """Tells of the database."""

    def close(self) -> None:
        """Leaves what was seen last."""


class _BlockView:
    """Lines below each other, whenever they are not the last ones."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: list[str] = []

    def show(self, summary: StudySummary) -> None:
        """Prints a block, if there is news."""
        lines = status_lines(summary)
        if lines == self._lines:
            return
        if self._lines:
            self._print("")
        self._lines = lines
        self._print(f"{time.strftime('%H:%M:%S')} {lines[0]}")
        for line in lines[1:]:
            self._print(line)

    def note(self, text: str) -> None:
        """Prints `text`."""
        self._print(f"{time.strftime('%H:%M:%S')} {text}")

    def close(self) -> None:
        """Nothing to put away."""

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


class _LiveView:
    """The whole terminal, which is given back with what was seen last as lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._summary: StudySummary | None = None
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._live.start()

    def show(self, summary: StudySummary) -> None:
        """Draws the study."""
        self._summary = summary
        self._draw("")

    def note(self, text: str) -> None:
        """Draws `text` beside what was seen last, until there is something newer."""
        self._draw(f"{time.strftime('%H:%M:%S')} {text}")

    def close(self) -> None:
        """Prints what was seen last, below what the terminal showed before."""
        self._live.stop()
        for line in status_lines(self._summary) if self._summary is not None else []:
            self._console.print(Text(line), soft_wrap=True, highlight=False)

    def _draw(self, note: str) -> None:
        summary, height = self._summary, self._console.height
        shown = Text(note) if summary is None else watch_screen(summary, height, note)
        self._live.update(shown, refresh=True)
