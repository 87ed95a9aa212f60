"""Runs commands where a folder is a small disk, or one that cannot be written.

`on_own_disks` starts one process for all of them: it alone sees the disks, in mounts of its own.
"""

import ctypes
import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 280

_NEW_USERS = 0x10000000  # CLONE_NEWUSER of unshare(2)


@dataclass(frozen=True)
class OnDisk:
    """A command.

    Attributes:
        options: of the mount, such as ``size=16k`` or ``ro``.
        arguments: of the command.
        home: the state folder; the disk is ``disk``.
        database_url: None for the embedded Postgres.
    """

    options: str
    arguments: tuple[str, ...]
    home: str = "disk"
    database_url: str | None = None


@dataclass(frozen=True)
class Ended:
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str


def on_own_disks(folder: Path, commands: list[OnDisk]) -> list[Ended]:
    """Runs commands one after the other in a folder, each with a new disk."""
    (folder / "disk").mkdir(exist_ok=True)
    result = folder / "ended.json"
    mounts = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    asked = json.dumps([dataclasses.asdict(command) for command in commands])
    process = subprocess.run(
        [
            *mounts,
            sys.executable,
            "-m",
            __name__,
            str(folder),
            asked,
            str(result),
            str(os.geteuid()),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert process.returncode == 0, process.stderr
    return [Ended(**each) for each in json.loads(result.read_text())]


def _run(folder: Path, command: OnDisk, user: int) -> Ended:
    """Runs one of them, within the mounts, as a copy of this process.

    Args:
        folder: where it runs.
        command: that is run.
        user: 0, or the one who is root within the mounts alone and is to be himself again.
    """
    from tests.integration.in_process import InProcess
    from tests.warm_start import copy_this_process, import_all

    import_all()
    disk = str(folder / "disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"mode=777,{command.options}", "tmpfs", disk]
    subprocess.run(mount, check=True)  # above the disk before, which nobody sees any more
    result = folder / "one.json"
    copy = os.fork()
    if copy == 0:
        if user:
            _become(user)
        copy_this_process()
        starts = InProcess(folder, command.database_url, {"CANOPY_HOME": command.home})
        ended = starts.run(*command.arguments, status=None)
        result.write_text(json.dumps([ended.returncode, ended.stdout, ended.stderr]))
        os._exit(0)
    assert os.waitpid(copy, 0)[1] == 0
    return Ended(*json.loads(result.read_text()))


def _become(user: int) -> None:
    """Gives this process, which is root of a namespace of its own, another user's number."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_NEW_USERS) == 0, os.strerror(ctypes.get_errno())
    Path("/proc/self/setgroups").write_text("deny")
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/self/{name}").write_text(f"{user} 0 1")


def main() -> None:
    """Runs what `on_own_disks` asks for."""
    folder, asked, result, user = sys.argv[1:]
    commands = [OnDisk(**each) for each in json.loads(asked)]
    ended = [dataclasses.asdict(_run(Path(folder), command, int(user))) for command in commands]
    Path(result).write_text(json.dumps(ended))


if __name__ == "__main__":
    main()
