"""optuna-dashboard on the study's own database."""

from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna_dashboard

from dashboards.errors import PortInUseError
from storage.studies import StudyStore

HOST = "127.0.0.1"
FIRST_PORT = 8080
PORTS_TRIED = 100


class _Server(ThreadingMixIn, WSGIServer):
    """Answers several requests of a page at once."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    """Writes no line for each request."""

    def log_message(self, *_arguments: Any) -> None:
        pass


def serve_dashboard(store: StudyStore, port: int | None, say: Callable[[str], None]) -> None:
    """Serves the dashboard on this machine only, until it is interrupted.

    Args:
        store: where the studies lie.
        port: to listen on; None for the first free one from 8080.
        say: is told the address, as soon as it answers.

    Raises:
        PortInUseError: `port`, or every port that was tried, is taken.
    """
    ports = range(FIRST_PORT, FIRST_PORT + PORTS_TRIED) if port is None else [port]
    with _listen(optuna_dashboard.wsgi(store.optuna_storage), ports) as server:
        say(f"studies at http://{HOST}:{server.server_port}/ (Ctrl-C ends)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _listen(application: Any, ports: range | list[int]) -> WSGIServer:
    for port in ports:
        try:
            return make_server(HOST, port, application, _Server, _QuietHandler)
        except OSError:
            continue
    raise PortInUseError(f"port {ports[0]} is in use; choose another one with --port")
