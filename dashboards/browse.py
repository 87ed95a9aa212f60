"""optuna-dashboard on the study's own database."""

import socket
from collections.abc import Callable

from optuna_dashboard import run_server

from dashboards.errors import PortInUseError
from storage.studies import StudyStore

HOST = "127.0.0.1"
FIRST_PORT = 8080
PORTS_TRIED = 100


def serve_dashboard(store: StudyStore, port: int | None, say: Callable[[str], None]) -> None:
    """Serves the dashboard on this machine only, until it is interrupted.

    Args:
        store: where the studies lie.
        port: to listen on; None for the first free one from 8080.
        say: is told the address.

    Raises:
        PortInUseError: `port`, or every port that was tried, is taken.
    """
    ports = range(FIRST_PORT, FIRST_PORT + PORTS_TRIED) if port is None else [port]
    chosen = next((candidate for candidate in ports if _is_free(candidate)), None)
    if chosen is None:
        raise PortInUseError(f"port {ports[0]} is in use; choose another one with --port")
    say(f"studies at http://{HOST}:{chosen}/ (Ctrl-C ends)")
    run_server(store.optuna_storage, host=HOST, port=chosen)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
