"""Folder of the worker logs of a study."""

from pathlib import Path
from urllib.parse import quote


def log_folder(home: Path, study: str) -> Path:
    """Returns the folder where the workers of a study write their logs.

    Args:
        home: the state folder.
        study: name of the study; any character is allowed.
    """
    return home / "logs" / quote(study, safe=" ")
