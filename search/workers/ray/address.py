"""Address of the Ray cluster that a search runs on."""

import os
import socket
import tempfile
from pathlib import Path

from canopy_search.search.errors import PlacementError

LOCAL = "local"
"""Ray's name for a new cluster on this machine."""
AUTO = "auto"
"""Ray's name for the cluster that ``ray start`` started on this machine."""
ADDRESS_VARIABLE = "RAY_ADDRESS"
_FOLDER_VARIABLE = "RAY_TMPDIR"
NO_TOKEN = "InvalidAuthToken"  # noqa: S105 - the name of Ray's error
_CONNECT_S = 5.0


def choose_address(address: str | None) -> str:
    """Returns the address of the cluster, by Ray's own rules.

    The rules are repeated here because Ray waits minutes for a cluster that no longer runs.

    Args:
        address: value of ``--address``; None or ``auto`` for the value of `RAY_ADDRESS`, else the
            cluster that this user, or root, started with ``ray start`` on this machine, if it
            responds.

    Returns:
        HOST:PORT, or `AUTO` for a cluster running on this machine, or `LOCAL` if there is none.

    Raises:
        PlacementError: nothing responds at the given address.

    References:
        https://docs.ray.io/en/latest/ray-core/api/doc/ray.init.html
    """
    given = address if address not in {None, AUTO} else os.environ.get(ADDRESS_VARIABLE)
    if given and given != AUTO:
        if given != LOCAL and not _responds(given):
            raise unusable(given, "it does not respond")
        return given
    running = _noted()
    if running and _responds(running):
        return AUTO  # with HOST:PORT Ray would not use the token stored on this machine
    if address == AUTO:
        raise PlacementError(
            "--address auto: no Ray cluster of yours runs on this machine; start one with: "
            "ray start --head, or name another user's with --address HOST:PORT"
        )
    return LOCAL


def _noted() -> str | None:
    """Returns the address that ``ray start`` noted on this machine; None without a note.

    Anyone can write a note into the temporary folder, and their cluster would receive code and the
    password of the database: only the user's own note counts, and the administrator's.
    """
    folder = Path(os.environ.get(_FOLDER_VARIABLE) or tempfile.gettempdir()) / "ray"
    note = folder / "ray_current_cluster"
    try:
        if note.lstat().st_uid not in {os.getuid(), 0}:
            return None
        return note.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def unusable(address: str, reason: str) -> PlacementError:
    """Returns the error for a cluster that cannot be used."""
    if address == LOCAL:
        return PlacementError(f"no Ray cluster could be started on this machine: {reason}")
    where = "on this machine" if address == AUTO else f"at {address}"
    remedy = f"check --address or {ADDRESS_VARIABLE}, and the cluster with: ray status"
    if NO_TOKEN in reason:
        reason = "it requires a token, and the token is missing or wrong"
        remedy = (
            "set RAY_AUTH_MODE=token, run ray get-auth-token on its head node, and put the token "
            "into ~/.ray/auth_token or RAY_AUTH_TOKEN"
        )
    return PlacementError(f"the Ray cluster {where} cannot be used: {reason}; {remedy}")


def _responds(address: str) -> bool:
    """Whether something listens at an address.

    Raises:
        PlacementError: the address is not HOST:PORT.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        raise PlacementError(f"address of the Ray cluster: {address}: expected HOST:PORT, or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError):
        return False
    return True
