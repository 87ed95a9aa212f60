"""Runs the `canopy` command within the test's own process: a start of Python costs eight seconds.

It is the same `main` with the same arguments, folder and environment as a user's; what it leaves
behind in the process (signal handlers, warning filters, folder, environment) is put back.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from search.cli import main
from tests.integration.canopy_command import Canopy

UNEXPECTED = ("Traceback", "this should not have happened")


@dataclass(frozen=True)
class InProcess:
    """A user in a folder, as `Canopy` is one, who needs no process for each command.

    Attributes:
        folder: where they stand; the state folder is ``.canopy`` in it.
        database_url: what their ``DATABASE_URL`` says; None leaves it to the embedded Postgres.
        variables: further environment variables.
    """

    folder: Path
    database_url: str | None = None
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Runs the command to its end and checks its exit status, unless that is None."""
        environment = Canopy(self.folder, self.database_url, self.variables).environment()
        out, err = _Stream("strict"), _Stream("backslashreplace")
        exit_status = 0
        with (
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch.object(sys, "argv", ["canopy", *arguments]),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
            _same_signal_handlers(),
        ):
            try:
                main()
            except SystemExit as end:
                exit_status = end.code if isinstance(end.code, int) else int(end.code is not None)
        stdout, stderr = out.text(), err.text()
        output = f"{stdout}\n{stderr}"
        assert status in {None, exit_status}, f"exit status {exit_status}: {output}"
        assert not any(text in output for text in UNEXPECTED), output
        return subprocess.CompletedProcess(arguments, exit_status, stdout, stderr)

    def json(self, *arguments: str) -> Any:
        """Runs the command with ``--json`` and returns what it printed."""
        return json.loads(self.run(*arguments, "--json").stdout)


class _Stream(io.TextIOWrapper):
    """What a terminal in UTF-8 takes: half a character fails as it does there."""

    def __init__(self, errors: str) -> None:
        self._bytes = io.BytesIO()
        super().__init__(self._bytes, encoding="utf-8", errors=errors, newline="\n")

    def text(self) -> str:
        self.flush()
        return self._bytes.getvalue().decode()


@contextlib.contextmanager
def _same_signal_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
