"""Runs the `canopy` command as a user would: a process, an environment, a folder."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.warm_start import WARM, WarmPopen

TIMEOUT_S = 280


@dataclass(frozen=True)
class Canopy:
    """A user in a folder.

    Attributes:
        folder: where they stand; the state folder is ``.canopy`` in it.
        database_url: what their ``DATABASE_URL`` says; None leaves it to the embedded Postgres.
        variables: further environment variables.
    """

    folder: Path
    database_url: str | None = None
    variables: dict[str, str] = field(default_factory=dict)

    def words(self, *arguments: str) -> list[str]:
        """What is typed: a search has one worker unless it says otherwise, so that it repeats."""
        is_search = arguments[:1] == ("search",) and "--help" not in arguments
        if is_search and not any(word.startswith("--workers") for word in arguments):
            return [*arguments, "--workers", "1"]
        return list(arguments)

    def environment(self) -> dict[str, str]:
        """The user's environment, with nothing of Canopy's from this machine."""
        kept = {k: v for k, v in os.environ.items() if k not in {"DATABASE_URL", "CANOPY_HOME"}}
        url = {} if self.database_url is None else {"DATABASE_URL": self.database_url}
        return kept | url | self.variables

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts the command and does not wait for it."""
        environment = self.environment()
        if WARM and environment.get("PYTHONPATH") == os.environ.get("PYTHONPATH"):
            return WarmPopen(self.words(*arguments), self.folder, environment)
        return subprocess.Popen(
            [sys.executable, "-m", "canopy_search", *self.words(*arguments)],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs the command to its end and checks its exit status."""
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == status, f"{stdout}\n{stderr}"
        return subprocess.CompletedProcess(arguments, status, stdout, stderr)

    def json(self, *arguments: str) -> Any:
        """Runs the command with ``--json`` and returns what it printed."""
        return json.loads(self.run(*arguments, "--json").stdout)
