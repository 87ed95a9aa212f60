"""The account that Postgres runs as, because it refuses to run as root."""

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from canopy_search.storage.errors import EmbeddedPostgresError

_CANDIDATES = ("nobody", "daemon")
REMEDY = "run Canopy as an ordinary user, or set DATABASE_URL to a Postgres server"
REFUSED = (126, 127)
"""Exit statuses of `command_for` if the program could not be run as the account."""


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


def command_for(account: ServiceAccount | None, command: list[str]) -> list[str]:
    """Returns the command line that runs a program as an account, None for the current one.

    Raises:
        EmbeddedPostgresError: this system cannot run programs as other accounts.
    """
    if account is None:
        return command
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EmbeddedPostgresError(
            f"Postgres refuses to run as root, and there is no setpriv (Linux, package util-linux) "
            f"to run it as another account; {REMEDY}"
        )
    # root may access private folders; an account that needs to keeps that capability alone.
    kept = "-all,+dac_override" if account.keep_file_access else "-all"
    ids = [f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
    return [setpriv, *ids, f"--inh-caps={kept}", f"--ambient-caps={kept}", "--", *command]
