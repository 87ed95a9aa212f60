"""The command `canopy worker`, as a backend runs it on another machine.

Ray and submitit send the source of this module with the job, so that a machine where Canopy is
missing or older can report it. It needs only Python.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CANOPY = "canopy-search"
PLACED_VARIABLE = "CANOPY_PLACED_WORKER"
"""The environment variable that `canopy worker` gets as a worker of a search on another machine:
the fields of `placed_worker.Placed` as JSON."""

DONE, INTERRUPTED = 0, 130
UNFIT = 69
"""Exit status of a placed worker whose machine lacks something."""
FAILED = 70
"""Exit status of a placed worker if no worker of the study can continue."""
SICK = 71
"""Exit status of a placed worker on which trials fail, while other workers are healthy."""
DIED = 1
"""Exit status of a placed worker that another process on its machine can replace."""

TIME_IS_UP = "its time is up"
ASKED_TO_LEAVE = "it was asked to leave"

CommandEnd = tuple[int, str]
"""Exit status, and the end of what was printed on standard error."""
_WORKER = ("-m", "canopy_search", "worker")
_LINES = 30


@dataclass(frozen=True)
class WorkerCommand:
    """What one worker of a search needs.

    Attributes:
        version: version of Canopy on the machine that started the search.
        arguments: arguments of `canopy worker`, without ``--config``.
        config: the configuration, as text of ``canopy.yaml``.
        placed: fields of `placed_worker.Placed`.
        environment: environment variables; a secret is only here.
        home: the state folder, unless the machine sets another one.
    """

    version: str
    arguments: tuple[str, ...]
    config: str
    placed: Mapping[str, int | None]
    environment: Mapping[str, str] = field(repr=False)
    home: str

    def problem(self) -> str | None:
        """Returns the problem with Canopy's installation on this machine; None if there is none."""
        remedy = f"pip install {CANOPY}=={self.version}"
        try:
            found = version(CANOPY)
        except PackageNotFoundError:
            return f"{CANOPY} is not installed on the node, in {sys.executable}; run: {remedy}"
        if found == self.version:
            return None
        return (
            f"expected {CANOPY} {self.version}, as on the machine that started the search, but "
            f"found {CANOPY} {found}; install the same version: {remedy}"
        )


class CanopyWorker:
    """The command in a process of its own, which leaves when this process ends.

    Args:
        command: what to run.
    """

    def __init__(self, command: WorkerCommand) -> None:
        self._problem = command.problem()
        self._lines: deque[str] = deque(maxlen=_LINES)
        if self._problem is not None:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="canopy-worker-")
        config = Path(self._folder.name, "canopy.yaml")
        config.write_text(command.config, encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, *_WORKER, "--config", str(config), *command.arguments],
            env={"CANOPY_HOME": command.home}
            | os.environ
            | dict(command.environment)
            | {PLACED_VARIABLE: json.dumps(dict(command.placed))},
            stdin=subprocess.PIPE,  # it ends with this process
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, name="canopy stderr", daemon=True)
        self._reader.start()

    def is_there(self) -> bool:
        """Returns True, to show that it runs."""
        return True

    def wait(self) -> CommandEnd:
        """Waits for the end; may be called again if the answer was lost."""
        if self._problem is not None:
            return UNFIT, self._problem
        exit_status = self._process.wait()
        self._reader.join()
        self._folder.cleanup()
        return exit_status, "".join(self._lines).strip()

    def leave(self) -> None:
        """Asks it to leave."""
        if self._problem is None:
            self._process.terminate()

    def _read(self) -> None:
        for line in self._process.stderr or ():
            sys.stderr.write(line)
            self._lines.append(line)
