"""The state folder, names in it, and the database, as the environment sets them."""

import hashlib
import os
import re
from pathlib import Path

HOME_VARIABLE = "CANOPY_HOME"
DATABASE_VARIABLE = "DATABASE_URL"
_LONGEST_PLAIN = 60


def state_home() -> Path:
    """Returns the state folder."""
    return Path(os.environ.get(HOME_VARIABLE) or ".canopy").absolute()


def folder_name(name: str) -> str:
    """Returns the name of a folder or file for a study, whatever the study's name is.

    It has at most 69 characters, none of which a file system, shell or batch system treats
    specially, and differs from that of any other study also where capitals do not count.

    Args:
        name: of the study.
    """
    plain = re.sub(r"[^a-z0-9._-]", "_", name.lower())
    if plain == name and len(name) <= _LONGEST_PLAIN and name[0].isalnum():
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return f"{plain[:_LONGEST_PLAIN].strip('._-') or 'study'}-{digest[:8]}"


def database_url() -> str | None:
    """Returns the database URL from the environment, if it is set."""
    return os.environ.get(DATABASE_VARIABLE) or None
