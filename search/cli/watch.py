"""`canopy status --watch`: a live screen on a terminal, blocks of lines elsewhere."""

import math
import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from canopy_search.dashboards.formatting.values import printable
from canopy_search.dashboards.study.model import StudyData
from canopy_search.dashboards.terminal.status import status_lines
from canopy_search.dashboards.terminal.watch_screen import watch_screen
from canopy_search.filestore.retry import Retrier, RetryPolicy
from canopy_search.search.console import is_live
from canopy_search.storage.connection.retry import DATABASE


def watch_study(read: Callable[[], StudyData], console: Console, every_s: float) -> None:
    """Shows a study until it is over and has no active worker, or until Ctrl-C.

    It reads only the database. While that is unavailable, it retries without a time limit.

    Args:
        read: returns the study's current state.
        console: where it is shown.
        every_s: seconds between two reads.

    Raises:
        UnknownStudyError: the study was deleted.
    """
    view = _LiveView(console) if is_live(console) else _BlockView(console)
    retrier = Retrier(RetryPolicy(math.inf), DATABASE, note=view.note)
    try:
        while True:
            summary = retrier.call(read)
            view.show(summary)
            if summary.is_over and not summary.is_searched:
                return
            time.sleep(every_s)
    except KeyboardInterrupt:
        return
    finally:
        view.close()


class _View(Protocol):
    """The output that shows a study."""

    def show(self, summary: StudyData) -> None:
        """Shows the study's current state."""

    def note(self, text: str) -> None:
        """Shows a note about the database."""

    def close(self) -> None:
        """Leaves the last state visible."""


class _BlockView:
    """Prints a block of lines whenever they change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: list[str] = []

    def show(self, summary: StudyData) -> None:
        """Prints a block if something changed."""
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
        """Does nothing: everything is printed already."""

    def _print(self, line: str) -> None:
        self._console.print(Text(printable(line)), soft_wrap=True)


class _LiveView:
    """Uses the whole terminal, restores it at the end and prints the last state as lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._summary: StudyData | None = None
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._live.start()

    def show(self, summary: StudyData) -> None:
        """Draws the study."""
        self._summary = summary
        self._draw("")

    def note(self, text: str) -> None:
        """Draws `text` with the last state, until a newer state arrives."""
        self._draw(f"{time.strftime('%H:%M:%S')} {text}")

    def close(self) -> None:
        """Restores the terminal and prints the last state below its earlier contents."""
        self._live.stop()
        for line in status_lines(self._summary) if self._summary is not None else []:
            self._console.print(Text(printable(line)), soft_wrap=True)

    def _draw(self, note: str) -> None:
        summary, height = self._summary, self._console.height
        shown = Text(note) if summary is None else watch_screen(summary, height, note)
        self._live.update(shown, refresh=True)
