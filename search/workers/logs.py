"""The worker logs of a study: their folder, what one ends with, and how one is written."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from canopy_search.search.environment import folder_name


def log_folder(home: Path, study: str) -> Path:
    """Returns the folder where the workers of a study write their logs.

    Args:
        home: the state folder.
        study: name of the study; any character is allowed.
    """
    return home / "logs" / folder_name(study)


def last_line(log: Path) -> str:
    """Returns the last line of a log that is not empty; an empty text if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    printed = [line.strip() for line in lines if line.strip()]
    return printed[-1] if printed else ""


class LogFile(io.TextIOBase):
    """A log file at whose end a process writes; what cannot be written is lost, without an error.

    Args:
        path: of the file; its folder is created.
        note: receives a message when the file cannot be written, once.
    """

    encoding = "utf-8"

    def __init__(self, path: Path, note: Callable[[str], None]) -> None:
        self._path = path
        self._note = note
        self._is_noted = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            self._fd = os.open(os.devnull, os.O_WRONLY)
            self._on_error(error)

    def fileno(self) -> int:
        """Returns the file descriptor; that of /dev/null if the file cannot be opened."""
        return self._fd

    def writable(self) -> bool:
        """Returns True."""
        return True

    def write(self, text: str) -> int:
        """Writes at once, as far as possible."""
        try:
            os.write(self._fd, text.encode(errors="backslashreplace"))
        except OSError as error:
            self._on_error(error)
        return len(text)

    def replace_output(self) -> None:
        """Makes it the standard output and standard error of this process."""
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(self._fd, number)
            setattr(sys, name, self)

    def _on_error(self, error: OSError) -> None:
        if not self._is_noted:
            self._is_noted = True
            self._note(f"the log {self._path} cannot be written: {error.strerror}; work continues")
