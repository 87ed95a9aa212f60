"""The account that Postgres runs as, because it refuses to run as root."""

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

from canopy_search.storage.errors import EmbeddedPostgresError
from canopy_search.storage.postgres import unprivileged

_CANDIDATES = ("nobody", "daemon")
REMEDY = "run Canopy as an ordinary user, or set DATABASE_URL to a Postgres server"


@dataclass(frozen=True)
class ServiceAccount:
    """An ordinary account to run a program as.

    Attributes:
        uid: its user id.
        gid: its group id.
        keep_file_access: whether it needs root's access to private folders.
    """

    uid: int
    gid: int
    keep_file_access: bool

    def hand_over(self, folder: Path) -> None:
        """Gives a folder and its contents to this account, as Postgres requires for its data."""
        if folder.stat().st_uid == self.uid:
            return
        for path, folders, files in os.walk(folder):
            for name in (*folders, *files):
                os.chown(Path(path, name), self.uid, self.gid, follow_symlinks=False)
        # The folder itself comes last: its owner shows whether a call was interrupted.
        os.chown(folder, self.uid, self.gid)


def service_account(folder: Path) -> ServiceAccount | None:
    """Returns the account for a Postgres below `folder`, or None if it can run as the current one.

    For root that is the folder's owner, so that the owner can use it later, or an existing account
    without privileges if root owns the folder. That account has to reach a folder that is private
    to root and stays so: it keeps other programs of that account away from the socket.

    Raises:
        EmbeddedPostgresError: there is no such account.
    """
    if os.geteuid() != 0:
        return None
    owner = folder.stat()
    if owner.st_uid != 0:
        return ServiceAccount(owner.st_uid, owner.st_gid, keep_file_access=False)
    if sys.platform != "linux":
        raise EmbeddedPostgresError(
            f"the embedded Postgres cannot run for root on this system; {REMEDY}"
        )
    for name in _CANDIDATES:
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServiceAccount(account.pw_uid, account.pw_gid, keep_file_access=True)
    raise EmbeddedPostgresError(
        f"Postgres refuses to run as root, and there is no account {' or '.join(_CANDIDATES)} "
        f"to run it as; {REMEDY}"
    )


def command_for(
    account: ServiceAccount | None, command: list[str], *, background_log: Path | None = None
) -> list[str]:
    """Returns the command line that runs a program as an account.

    Args:
        account: to run it as; None for the current one.
        command: the program's path and its arguments.
        background_log: leave the program running, write its output to this file, and print its
            process id.
    """
    if account is None and background_log is None:
        return command
    launcher = [sys.executable, "-I", "-S", os.fspath(unprivileged.__file__)]
    if account is not None:
        launcher += ["--uid", str(account.uid), "--gid", str(account.gid)]
        if account.keep_file_access:
            launcher.append("--keep-file-access")
    if background_log is not None:
        launcher += ["--background", os.fspath(background_log)]
    return [*launcher, "--", *command]
