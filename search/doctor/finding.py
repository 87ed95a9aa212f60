"""What a check of the surroundings found."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warning", "error"]

EXIT_STATUS: dict[Status, int] = {"ok": 0, "warning": 1, "error": 2}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        check: what was looked at.
        status: ``error`` where a search cannot work, ``warning`` where it may not, or where
            something beside it does not.
        found: what is there.
        remedy: what to do; None where nothing has to be done.
    """

    check: str
    status: Status
    found: str
    remedy: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns the finding as JSON values."""
        return asdict(self)


def ok(check: str, found: str) -> Finding:
    """Returns the finding that all is well."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Returns the finding that something is doubtful."""
    return Finding(check, "warning", found, remedy)


def error(check: str, found: str, remedy: str) -> Finding:
    """Returns the finding that a search cannot work."""
    return Finding(check, "error", found, remedy)


def failure(check: str, message: str, remedy: str) -> Finding:
    """Returns an error by its message.

    Args:
        check: what was looked at.
        message: what is wrong; of a single line the last part says what to do.
        remedy: what to do, if the message does not say so.
    """
    found, _, own_remedy = message.rpartition("; ")
    if not found or "\n" in message:
        return error(check, message, remedy)
    return error(check, found, own_remedy)


def exit_status(findings: Iterable[Finding]) -> int:
    """Returns the exit status of the worst of the findings."""
    return max((EXIT_STATUS[finding.status] for finding in findings), default=0)
