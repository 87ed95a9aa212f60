"""The result of a check of the environment."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warning", "error"]

EXIT_STATUS: dict[Status, int] = {"ok": 0, "warning": 1, "error": 2}


@dataclass(frozen=True)
class Finding:
    """One line of `canopy doctor`.

    Attributes:
        check: what was checked.
        status: ``error`` if a search cannot work, ``warning`` if it may not, or if something
            optional does not.
        found: what was found.
        remedy: what to do; None if nothing has to be done.
    """

    check: str
    status: Status
    found: str
    remedy: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns the finding as JSON values."""
        return asdict(self)


def ok(check: str, found: str) -> Finding:
    """Returns a finding without a problem."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Returns a finding with a possible problem."""
    return Finding(check, "warning", found, remedy)


def error(check: str, found: str, remedy: str) -> Finding:
    """Returns a finding that prevents a search."""
    return Finding(check, "error", found, remedy)


def failure(check: str, message: str, remedy: str) -> Finding:
    """Returns a finding from an error's message.

    Args:
        check: what was checked.
        message: what is wrong; in a single line, the part after the last semicolon is the remedy.
        remedy: what to do, if the message has no remedy.
    """
    found, _, own_remedy = message.rpartition("; ")
    if not found or "\n" in message:
        return error(check, message, remedy)
    return error(check, found, own_remedy)


def exit_status(findings: Iterable[Finding]) -> int:
    """Returns the exit status of the worst finding."""
    return max((EXIT_STATUS[finding.status] for finding in findings), default=0)
