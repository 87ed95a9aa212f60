"""The address of the Ray cluster that a search is placed on."""

import os
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

from canopy_search.search.errors import PlacementError

LOCAL = "local"
"""What Ray calls a new cluster on this machine."""
AUTO = "auto"
"""What Ray calls the cluster that ``ray start`` has begun on this machine."""
ADDRESS_VARIABLE = "RAY_ADDRESS"
_FOLDER_VARIABLE = "RAY_TMPDIR"
NO_TOKEN = "InvalidAuthToken"  # noqa: S105 - what Ray says
_ANSWER_S = 5.0


def choose_address(address: str | None) -> str:
    """Returns the address of the cluster, by Ray's own rules.

    These are looked after here, for Ray waits minutes for a cluster that is gone.

    Args:
        address: as the command line has it; None or ``auto`` for what the variable `RAY_ADDRESS`
            names, else the cluster that ``ray start`` has begun on this machine, if it answers.

    Returns:
        HOST:PORT, or `AUTO` for one that runs on this machine, or `LOCAL` where there is none.

    Raises:
        PlacementError: nothing answers at the address that was named.

    References:
        https://docs.ray.io/en/latest/ray-core/api/doc/ray.init.html
    """
    named = address if address not in {None, AUTO} else os.environ.get(ADDRESS_VARIABLE)
    if named and named != AUTO:
        if named != LOCAL and not _answers(named):
            raise unusable(named, "nothing answers there")
        return named
    folder = Path(os.environ.get(_FOLDER_VARIABLE) or tempfile.gettempdir()) / "ray"
    with suppress(OSError):
        running = (folder / "ray_current_cluster").read_text().strip()
        if running and _answers(running):
            return AUTO  # only so does Ray take the token that this machine has for it
    if address == AUTO:
        raise PlacementError(
            "--address auto: no Ray cluster runs on this machine; begin one with: ray start --head"
        )
    return LOCAL


def unusable(address: str, reason: str) -> PlacementError:
    """Returns the error of a cluster that cannot be used."""
    if address == LOCAL:
        return PlacementError(f"no Ray cluster could be started on this machine: {reason}")
    which = "that runs on this machine" if address == AUTO else f"at {address}"
    remedy = f"check --address or {ADDRESS_VARIABLE}, and the cluster with: ray status"
    if NO_TOKEN in reason:
        reason = "it wants a token, and has been given none or another one"
        remedy = (
            "set RAY_AUTH_MODE=token, and put the token of its head node, which ray get-auth-token "
            "prints there, into ~/.ray/auth_token or RAY_AUTH_TOKEN"
        )
    return PlacementError(f"the Ray cluster {which} cannot be used: {reason}; {remedy}")


def _answers(address: str) -> bool:
    """Whether something listens there.

    Raises:
        PlacementError: it is no address.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        raise PlacementError(
            f"the address of a Ray cluster is {address}; expected HOST:PORT, or local"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except (OSError, OverflowError):
        return False
    return True
