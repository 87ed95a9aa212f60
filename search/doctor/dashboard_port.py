"""The check that the dashboard has a free port."""

import socket
from collections.abc import Iterator

from canopy_search.dashboards.optuna_dashboard.serve import FIRST_PORT, HOST, PORTS_TRIED
from canopy_search.search.doctor.finding import Finding, ok, warning


def check_dashboard_port() -> Iterator[Finding]:
    """Finds the port that `canopy dashboard` will use."""
    last = FIRST_PORT + PORTS_TRIED - 1
    port = next((port for port in range(FIRST_PORT, last + 1) if _is_free(port)), None)
    if port is None:
        yield warning(
            "dashboard",
            f"ports {FIRST_PORT} to {last} are all in use",
            "choose a free one: canopy dashboard --port PORT",
        )
    elif port > FIRST_PORT:
        yield ok("dashboard", f"port {FIRST_PORT} is in use, the dashboard will use {port}")
    else:
        yield ok("dashboard", f"port {port} is free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the dashboard's server does: a recently closed connection does not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
