"""Serves optuna-dashboard on the studies' own database, and opens it in a browser."""

import os
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, Literal
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from canopy_search.dashboards.errors import PortInUseError
from canopy_search.dashboards.optuna_dashboard.pages import Pages
from canopy_search.dashboards.optuna_dashboard.views import BestYaml, StudyViews
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore

Host = Literal["127.0.0.1", "0.0.0.0"]  # noqa: S104 - opt-in, with a printed warning
HOST: Host = "127.0.0.1"
FIRST_PORT = 8080
PORTS_TRIED = 100
UPLOADS = "artifacts"
"""Folder of the user's uploads, below the state folder."""


class _Server(ThreadingMixIn, WSGIServer):
    """Answers requests in parallel."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    """Logs no requests."""

    def log_message(self, *_arguments: Any) -> None:
        pass


def serve_dashboard(
    database: Database,
    home: Path,
    best_yaml: BestYaml,
    port: int | None,
    say: Callable[[str], None],
    *,
    host: Host = HOST,
    opens: bool = False,
) -> None:
    """Serves the dashboard until it is interrupted; by default on this machine only.

    Args:
        database: the studies' database.
        home: the state folder.
        best_yaml: returns the best configuration of a study of Canopy's.
        port: port to listen on; None for the first free one from 8080.
        say: called with the address when the server is ready.
        host: address to listen on. Anyone who can reach it can change notes and delete studies
            without a password; 0.0.0.0 is meant for containers, which restrict it when they
            publish their ports.
        opens: whether to open it in a browser.

    Raises:
        PortInUseError: `port`, or every port that was tried, is in use.
    """
    with open_server(database, home, best_yaml, port, host) as server:
        address = f"http://{HOST}:{server.server_port}/"
        if host == HOST:
            say(f"studies at {address} (Ctrl-C ends)")
        else:
            say(
                f"studies at port {server.server_port} of every address of this machine or "
                "container, without a password: in a container, publish it on 127.0.0.1 only"
            )
        if opens:
            # Some browsers return only when they are closed.
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def open_server(
    database: Database, home: Path, best_yaml: BestYaml, port: int | None, host: Host = HOST
) -> WSGIServer:
    """Returns a server that listens but does not answer yet.

    Args:
        database: the studies' database.
        home: the state folder.
        best_yaml: returns the best configuration of a study of Canopy's.
        port: port to listen on; None for the first free one from 8080.
        host: address to listen on.

    Raises:
        PortInUseError: `port`, or every port that was tried, is in use.
    """
    pages = Pages(StudyViews(StudyStore(database), database, home / UPLOADS, best_yaml))
    ports = range(FIRST_PORT, FIRST_PORT + PORTS_TRIED) if port is None else [port]
    for number in ports:
        try:
            return make_server(host, number, pages, _Server, _QuietHandler)
        except OSError:
            continue
    raise PortInUseError(f"port {ports[0]} is in use; choose another one with --port")


def is_desktop() -> bool:
    """Whether the user is at this machine's own screen, and can see a browser window."""
    is_remote = any(os.environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY", "CI"))
    has_display = sys.platform in {"darwin", "win32"} or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return sys.stdout.isatty() and has_display and not is_remote
