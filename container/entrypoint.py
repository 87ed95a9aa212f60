"""What a container of Canopy runs: `canopy`, with what only a container has to see to.

A user id that has no name gets one. Where the embedded Postgres is used, no second container may
use its folder at once, and the server is stopped when the command has ended.
"""

import fcntl
import os
import pwd
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

COMMAND = "canopy"


def main() -> int:
    """Runs the command of this container's arguments and returns its exit status."""
    name_user()
    home = Path(os.environ["CANOPY_HOME"])
    has_server = bool(os.environ.get("DATABASE_URL", "").strip())
    if has_server or not home.is_dir() or not os.access(home, os.W_OK):
        os.execvp(COMMAND, [COMMAND, *sys.argv[1:]])  # noqa: S606 - this process becomes it
    # Postgres tells by process ids and shared memory whether its data is in use, and containers do
    # not see each other's. A lock of the kernel counts in all of them.
    with (home / "container.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(
                f"{COMMAND}: another container works in {home}, with the Postgres that lies there; "
                f"type the command in that one (docker exec CONTAINER {COMMAND} ...), or let both "
                "use a server (DATABASE_URL)\n"
            )
            return 2
        status = run()
        if (home / "postgres" / "data" / "postmaster.pid").exists():
            subprocess.run([COMMAND, "db", "stop"], check=False, stdout=subprocess.DEVNULL)
        return status


def name_user() -> None:
    """Gives the user a name, which Postgres asks for, where `--user` named an id without one."""
    user, group = os.getuid(), os.getgid()
    try:
        pwd.getpwuid(user)
    except KeyError:
        names = Path(tempfile.mkdtemp(prefix="canopy-user-"))
        (names / "passwd").write_text(f"canopy:x:{user}:{group}::{os.environ['HOME']}:/bin/false\n")
        (names / "group").write_text(f"canopy:x:{group}:\n")
        os.environ |= {
            "USER": "canopy",
            "LD_PRELOAD": "libnss_wrapper.so",
            "NSS_WRAPPER_PASSWD": str(names / "passwd"),
            "NSS_WRAPPER_GROUP": str(names / "group"),
        }


def run() -> int:
    """Runs the command as a child, and sees to what the first process of a container has to."""
    child = subprocess.Popen([COMMAND, *sys.argv[1:]])

    def pass_on(number: int, _frame: FrameType | None) -> None:
        # Ctrl-C at a terminal has reached the child already; a second one would not be patient.
        if number != signal.SIGINT or not sys.stdin.isatty():
            child.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    while True:
        # Whatever lost its parent is this process's child too, and is a zombie until waited for.
        ended, status = os.wait()
        if ended == child.pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            break
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    sys.exit(main())
