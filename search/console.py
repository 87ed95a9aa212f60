"""The door to the terminal: texts of other machines, files and servers cannot control it."""

import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from canopy_search.dashboards.formatting.values import is_harmless, printable

PLAIN_WIDTH = 160


class _CleanConsole(Console):
    """Prints texts as they are, without markup, and replaces their control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Returns the segments that are printed; only rich's own control the terminal."""
        for text, style, control in super().render(renderable, options):
            if control or is_harmless(text):
                yield Segment(text, style, control)
            else:
                yield Segment("\n".join(map(printable, text.split("\n"))), style)


def open_console(*, stderr: bool = False) -> Console:
    """Returns the console of a command: wide and plain in a pipe or with ``CI`` set."""
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty() and not os.environ.get("CI"):
        return _CleanConsole(stderr=stderr)
    return _CleanConsole(stderr=stderr, force_terminal=False, color_system=None, width=PLAIN_WIDTH)


def log_console(file: TextIO) -> Console:
    """Returns a console that writes wide and plain lines to a log."""
    return _CleanConsole(file=file, color_system=None, width=PLAIN_WIDTH)


def is_live(console: Console) -> bool:
    """Whether the console is a terminal that can redraw lines."""
    return console.is_terminal and not console.is_dumb_terminal


def say(*lines: str, err: bool = False) -> None:
    """Prints lines for people; a line break in one of them is printed as a space.

    Args:
        lines: without line breaks at their ends.
        err: whether to print them on standard error.
    """
    stream = sys.stderr if err else sys.stdout
    stream.writelines(f"{printable(line)}\n" for line in lines)
    stream.flush()


def write(text: str) -> None:
    """Writes a document to standard output: unchanged, but for a terminal's control characters.

    Args:
        text: all of it, with the line break at its end.
    """
    if sys.stdout.isatty():
        text = "\n".join(map(printable, text.split("\n")))
    sys.stdout.write(text)
    sys.stdout.flush()
