"""Text from users and servers in Markdown, with its markup escaped."""

import re
from urllib.parse import quote

# Markdown ignores an underscore within a word, and nearly every loss and network has one.
_MARKUP = re.compile(r"[\\`*\[\]<>#|~&$!]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")
_URL_SAFE = "/:?#@!$&'*+,;=%-._~"


def escaped(text: object) -> str:
    """Returns a text on one line with Markdown's markup escaped.

    Do not put it at the start of a line, where it could become a list or a heading.
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
        url: the target; characters that would end the link are percent-encoded.
    """
    return f"[{escaped(text)}]({quote(url, safe=_URL_SAFE)})"
