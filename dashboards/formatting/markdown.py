"""Texts of users and servers in Markdown: shown as they are, whatever markup they hold."""

import re
from urllib.parse import quote

# An underscore within a word is none of Markdown's, and nearly every loss and network has one.
_MARKUP = re.compile(r"[\\`*\[\]<>#|~&$!]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")
_URL_SAFE = "/:?#@!$&'*+,;=%-._~"


def escaped(text: object) -> str:
    """Returns a text on one line that Markdown shows as it is.

    Where it begins a line it may still be taken for a list or a heading, so it must not.
    """
    line = " ".join(printable_line(str(text)).split())
    return _MARKUP.sub(lambda found: f"\\{found[0]}", line)


def printable_line(text: str) -> str:
    """Returns a text without line breaks and control characters."""
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


def code(text: str) -> str:
    """Returns a text as inline code; one with backticks is fenced by more of them."""
    line = printable_line(text)
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    if not longest:
        return f"`{line}`"
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}"


def link(text: str, url: str) -> str:
    """Returns a link.

    Args:
        text: of the link.
        url: where it leads; what would end it early is percent-encoded.
    """
    return f"[{escaped(text)}]({quote(url, safe=_URL_SAFE)})"
