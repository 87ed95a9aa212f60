"""Messages of libraries and servers, as users see them."""

import re

LONGEST = 400
_PASSWORD = re.compile(r"(?<=://)[^\s/@]*:\S*@")


def first_line(message: object) -> str:
    """Returns the first line of a message, shortened, and without the passwords of its URLs.

    Args:
        message: an exception, which may quote a whole file or a URL, or a text.

    Returns:
        At most `LONGEST` characters; the name of its class for an exception without a message.
    """
    lines = (line.strip() for line in str(message).splitlines())
    nothing = type(message).__name__ if isinstance(message, BaseException) else ""
    line = _PASSWORD.sub("***@", next(filter(None, lines), nothing))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
