"""The environment variables for the state folder and the database."""

import os
from pathlib import Path

HOME_VARIABLE = "CANOPY_HOME"


DATABASE_VARIABLE = "DATABASE_URL"


def state_home() -> Path:
    """Returns the state folder."""
    return Path(os.environ.get(HOME_VARIABLE) or ".canopy").absolute()


def database_url() -> str | None:
    """Returns the database URL from the environment, if it is set."""
    return os.environ.get(DATABASE_VARIABLE) or None
