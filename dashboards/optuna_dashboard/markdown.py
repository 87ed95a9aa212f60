"""Escapes texts for Markdown, so that names and values never become markup or links."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

_MARKUP = re.compile(r"[\\`*_\[\]<>&|~#@]|:(?=//)|(?<=www)\.")
# Starts of a line that would become a list, a rule, or the underline of a heading.
_BLOCK = re.compile(r"^(?:\d+(?=[.)](?:\s|$))|(?=[-=]|\+(?:\s|$)))")


def plain(text: object) -> str:
    """Returns a text as one line that Markdown shows unchanged.

    Starts of addresses are escaped too, because GitHub's dialect turns bare ones into links.
    """
    joined = " ".join(str(text).split())
    escaped = _MARKUP.sub(lambda found: "\\" + found[0], joined)
    return _BLOCK.sub(r"\g<0>\\", escaped)


def code(text: str) -> str:
    """Returns a text as one line of code, even if it contains backticks."""
    joined = " ".join(text.split())
    longest = max((len(list(run)) for tick, run in groupby(joined) if tick == "`"), default=0)
    fence = "`" * (longest + 1)
    pad = " " if joined.startswith("`") or joined.endswith("`") else ""
    return f"{fence}{pad}{joined}{pad}{fence}"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table; its cells must already be Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
