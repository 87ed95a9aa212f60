"""Values that a program wrote as text: lists of Python, JSON, NumPy and Postgres, and no value."""

import ast
import re

_NOTHING = frozenset({"nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "NaT"})
_CALL = re.compile(r"(?:array|set|frozenset|list|tuple|Index)\((.*?)(?:,\s*dtype=[^()]*)?\)", re.S)
_BRACKETS = {"[": "]", "{": "}", "(": ")"}
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.S)


def is_nothing(text: str) -> bool:
    """Whether a cell says that there is no value, such as ``nan`` or ``None``."""
    return text.strip() in _NOTHING


def parsed_list(text: str) -> list[str] | None:
    """Returns the elements of a list that was written as text.

    ``['a', 'b']``, ``["a", "b"]``, ``['a' 'b']``, ``{'a', 'b'}``, ``array(['a'], dtype=object)``
    and ``{a,b}`` are such lists.

    Returns:
        None if the text is no list.

    Raises:
        ValueError: it is a list of something else than texts, a dictionary, or shortened.
    """
    inside = text.strip()
    called = _CALL.fullmatch(inside)
    if called:
        inside = called[1].strip()
        if not inside:
            return []
    if len(inside) < 2 or _BRACKETS.get(inside[0]) != inside[-1]:
        return None
    has_quotes = _QUOTED.search(inside) is not None
    if inside[0] == "(" and not has_quotes and inside != "()" and not called:
        return None  # a remark in parentheses
    body = inside[1:-1]
    rest = _QUOTED.sub("", body)
    if "..." in rest or "…" in rest:
        raise ValueError("a list that was shortened when it was written")
    if has_quotes and ":" in rest:
        raise ValueError("a dictionary")
    if not has_quotes:
        if set(body) & set("[]{}():'\""):
            raise ValueError("not a list of texts")
        return _without_nothing(body.split(","))
    if any(word not in _NOTHING for word in rest.replace(",", " ").split()):
        raise ValueError("not a list of texts")
    return _without_nothing([str(ast.literal_eval(quoted)) for quoted in _QUOTED.findall(body)])


def _without_nothing(elements: list[str]) -> list[str]:
    return [tag.strip() for tag in elements if tag.strip() and not is_nothing(tag)]
