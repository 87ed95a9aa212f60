"""Text from users and servers in Markdown, so that names and values never become markup."""

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from canopy_search.dashboards.formatting.values import printable

# Markdown ignores an underscore within a word, and nearly every loss and network has one. GitHub's
# dialect turns bare addresses into links, so their starts are escaped too.
_MARKUP = re.compile(r"[\\`*\[\]<>#|~&$!@]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])|:(?=//)|(?<=www)\.")
# Starts of a line that would become a list, a rule, or the underline of a heading.
_BLOCK = re.compile(r"^(?:\d+(?=[.)](?:\s|$))|(?=[-=]|\+(?:\s|$)))")
_URL_SAFE = "/:?#@!$&'*+,;=%-._~"


def escaped(text: object) -> str:
    """Returns a text as one line that Markdown shows unchanged."""
    line = _MARKUP.sub(lambda found: f"\\{found[0]}", _one_line(str(text)))
    return _BLOCK.sub(r"\g<0>\\", line)


def code(text: str) -> str:
    """Returns a text as one line of code; one with backticks is fenced by more of them."""
    line = _one_line(text)
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def link(text: str, url: str) -> str:
    """Returns a link.

    Args:
        text: of the link.
        url: the target; characters that would end the link are percent-encoded.
    """
    return f"[{escaped(text)}]({quote(url, safe=_URL_SAFE)})"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table; its cells must already be Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())
