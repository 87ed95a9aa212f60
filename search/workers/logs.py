"""Where the logs of a study's workers are."""

from pathlib import Path
from urllib.parse import quote


def log_folder(home: Path, study: str) -> Path:
    """Returns where the workers of a study write their logs.

    Args:
        home: the state folder.
        study: name of the study, in which any character may stand.
    """
    return home / "logs" / quote(study, safe=" ")
