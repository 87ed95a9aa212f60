"""The table that the checks fill, row by row."""

import time
from collections.abc import Callable
from dataclasses import dataclass

HEAD = "| check | outcome | found | s |\n|---|---|---|---|"
_LEAST_S = 20.0
"""No check begins with less time left."""


@dataclass(frozen=True)
class Result:
    """A row of the table.

    Attributes:
        name: of the check.
        outcome: ``ok``, ``failed`` or ``skipped``.
        found: in one line.
        seconds: that it took.
    """

    name: str
    outcome: str
    found: str
    seconds: float = 0.0


def timed(name: str, check: Callable[[float], tuple[str, str]], deadline_s: float) -> Result:
    """Runs a check with the time that is left, or skips it.

    Args:
        name: of the check.
        check: takes the seconds that are left, returns the outcome and what was found.
        deadline_s: by the monotonic clock.
    """
    started_s = time.monotonic()
    left_s = deadline_s - started_s
    if left_s < _LEAST_S:
        return Result(name, "skipped", "no time was left")
    outcome, found = check(left_s)
    return Result(name, outcome, found, time.monotonic() - started_s)


def row(result: Result) -> str:
    """Returns the row of a check."""
    found = result.found.replace("|", "/")
    return f"| {result.name} | {result.outcome} | {found} | {result.seconds:.0f} |"
