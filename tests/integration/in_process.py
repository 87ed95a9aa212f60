"""Runs the `canopy` command within the test's own process: a start of Python costs eight seconds.

It is the same `main` with the same arguments, folder and environment as a user's; what it leaves
behind in the process (signal handlers, warning filters, folder, environment) is put back.
"""

import contextlib
import io
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from multiprocessing import forkserver
from typing import Any, ClassVar
from unittest import mock

from canopy_search.search.cli.main import main
from tests.integration.canopy_command import Canopy
from tests.warm_start import warm_forkservers

UNEXPECTED = ("Traceback", "canopy: internal error")


class InProcess(Canopy):
    """The same user, who needs no process for each command."""

    _template_environment: ClassVar[dict[str, str] | None] = None

    def run(self, *arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Runs the command to its end and checks its exit status, unless that is None."""
        environment = self.environment()
        self._leave_others_template(environment)
        out, err = _Stream("strict"), _Stream("backslashreplace")
        exit_status = 0
        with (
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch.object(sys, "argv", ["canopy", *self.words(*arguments)]),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
            _same_signal_handlers(),
            warm_forkservers(),
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

    def _leave_others_template(self, environment: dict[str, str]) -> None:
        """Ends the process that workers are copies of if it began with another environment.

        A user's command has one of its own, and so does the mirror, which reads its variables.
        """
        # A worker is given its whole environment; the mirror reads none of these.
        environment = {
            name: value
            for name, value in environment.items()
            if name not in {"DATABASE_URL", "CANOPY_HOME", "PYTEST_CURRENT_TEST"}
            and not name.startswith("AWS_")
        }
        if InProcess._template_environment not in (None, environment):
            template: Any = forkserver
            template._forkserver._stop()  # what Python's own tests do; there is no public way
        InProcess._template_environment = environment


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
