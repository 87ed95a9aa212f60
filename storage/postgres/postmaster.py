"""Finds the process that serves a Postgres data folder."""

import os
from pathlib import Path

import psutil

_LARGEST_PID = 2**31 - 1


def recorded_pid(data: Path) -> int | None:
    """Returns the process id in `postmaster.pid`, even if another process has that id now."""
    try:
        with (data / "postmaster.pid").open("rb") as file:
            line = file.readline(32).strip()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    if not line.isdigit() or not 0 < int(line) <= _LARGEST_PID:
        return None
    return int(line)


def find_postmaster(data: Path) -> psutil.Process | None:
    """Returns the running Postgres that serves `data`.

    After a crash or a reboot the recorded id may belong to another program, so the process must be
    a Postgres in this folder. The folder may have been moved since it was started.
    """
    pid = recorded_pid(data)
    if pid is None:
        return None
    process = living(pid)
    return process if process is not None and _serves(process, data) else None


def living(pid: int) -> psutil.Process | None:
    """Returns the process with that id, unless it has ended or is a zombie."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
    return process if is_alive(process) else None


def is_alive(process: psutil.Process) -> bool:
    """Whether this process, and not a later one with the same id, still runs."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _serves(process: psutil.Process, data: Path) -> bool:
    try:
        if process.name() != "postgres":
            return False
        try:
            return Path(process.cwd()).samefile(data)
        except psutil.AccessDenied:
            # In a container, root can read only the command lines of other accounts' processes.
            return process.cmdline()[1:3] == ["-D", os.fspath(data)]
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return False
