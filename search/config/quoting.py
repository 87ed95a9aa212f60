"""Keys and values of a configuration as text for messages: short, and safe for a terminal."""

from datetime import date
from typing import Any

from canopy_search.dashboards.formatting.values import is_harmless

LONGEST = 60
_FEW = 4


def shown_path(path: object) -> str:
    """Returns a path unchanged, however long, unless it is unsafe for a terminal."""
    text = str(path)
    return text if is_harmless(text) else repr(text)


def shown_key(key: object) -> str:
    """Returns a key unchanged if it is short and printable, else in quotes."""
    text = str(key)
    if text and text.isprintable() and len(text) <= LONGEST and ": " not in text:
        return text
    return shown_text(text)


def shown_text(text: str) -> str:
    """Returns `text` in quotes, with escapes, shortened if it is long."""
    if len(text) > LONGEST:
        return f"{text[: LONGEST - 10]!r}... ({len(text)} characters)"
    return repr(text)


def found_text(value: Any) -> str:
    """Describes a value in plain words: ``the word 'no'``, ``a list``, ``[4095, 0]``."""
    if isinstance(value, str):
        return ("the word " if value.isalpha() else "") + shown_text(value)
    if isinstance(value, dict | list | tuple):
        if isinstance(value, list) and 2 <= len(value) <= _FEW and all(map(_is_number, value)):
            return f"[{', '.join(map(found_text, value))}]"
        kind = "mapping" if isinstance(value, dict) else "list"
        return f"a {kind}" if value else f"an empty {kind}"
    if isinstance(value, date):
        return f"the date {value}"
    words = {None: "nothing", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and len(str(value)) < LONGEST
