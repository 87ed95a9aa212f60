"""Texts as Markdown shows them: no name of a study, label or value becomes markup or a link."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

_MARKUP = re.compile(r"[\\`*_\[\]<>&|~#@]|:(?=//)|(?<=www)\.")
# Where a paragraph would become a list, a rule, or the underline of a heading.
_BLOCK = re.compile(r"^(?:\d+(?=[.)](?:\s|$))|(?=[-=]|\+(?:\s|$)))")


def plain(text: object) -> str:
    """Returns a text in one line that Markdown shows as it is.

    What begins an address is escaped too, for GitHub's dialect makes links of bare ones.
    """
    joined = " ".join(str(text).split())
    escaped = _MARKUP.sub(lambda found: "\\" + found[0], joined)
    return _BLOCK.sub(r"\g<0>\\", escaped)


def code(text: str) -> str:
    """Returns a text in one line as code, whatever backticks are in it."""
    joined = " ".join(text.split())
    longest = max((len(list(run)) for tick, run in groupby(joined) if tick == "`"), default=0)
    fence = "`" * (longest + 1)
    pad = " " if joined.startswith("`") or joined.endswith("`") else ""
    return f"{fence}{pad}{joined}{pad}{fence}"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of cells that are Markdown already."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
