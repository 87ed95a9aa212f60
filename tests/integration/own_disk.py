"""Runs commands where a folder is a small disk, or one that cannot be written.

`on_own_disks` starts one process for all of them: it alone sees the disks, in mounts of its own.
"""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 280


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
        [*mounts, sys.executable, "-m", __name__, str(folder), asked, str(result)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert process.returncode == 0, process.stderr
    return [Ended(**each) for each in json.loads(result.read_text())]


def _run(folder: Path, command: OnDisk) -> Ended:
    """Runs one of them, within the mounts."""
    from tests.integration.in_process import InProcess

    disk = str(folder / "disk")
    mount = ["mount", "-t", "tmpfs", "-o", command.options, "tmpfs", disk]
    subprocess.run(mount, check=True)  # above the disk before, which nobody sees any more
    user = InProcess(folder, command.database_url, {"CANOPY_HOME": command.home})
    ended = user.run(*command.arguments, status=None)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def main() -> None:
    """Runs what `on_own_disks` asks for."""
    folder, asked, result = sys.argv[1:]
    commands = [OnDisk(**each) for each in json.loads(asked)]
    ended = [dataclasses.asdict(_run(Path(folder), command)) for command in commands]
    Path(result).write_text(json.dumps(ended))


if __name__ == "__main__":
    main()
