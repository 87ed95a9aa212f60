"""The worker logs of a study: their folder, and what one of them ends with."""

from pathlib import Path
from urllib.parse import quote


def log_folder(home: Path, study: str) -> Path:
    """Returns the folder where the workers of a study write their logs.

    Args:
        home: the state folder.
        study: name of the study; any character is allowed.
    """
    return home / "logs" / quote(study, safe=" ")


def last_line(log: Path) -> str:
    """Returns the last line of a log that is not empty; an empty text if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    printed = [line.strip() for line in lines if line.strip()]
    return printed[-1] if printed else ""
