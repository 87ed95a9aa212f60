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

Host = Literal["127.0.0.1", "0.0.0.0"]  # noqa: S104 - whoever asks for it is told
HOST: Host = "127.0.0.1"
FIRST_PORT = 8080
PORTS_TRIED = 100
UPLOADS = "artifacts"
"""The folder, below the state folder, of files that people upload in the dashboard."""


class _Server(ThreadingMixIn, WSGIServer):
    """Answers several requests of a page at once."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    """Writes no line for each request."""

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
    """Serves the dashboard until it is interrupted; as it stands, on this machine only.

    Args:
        database: whose studies are shown.
        home: the state folder.
        best_yaml: returns the best setting of a study of ours.
        port: to listen on; None for the first free one from 8080.
        say: is told the address, as soon as it answers.
        host: address to listen on. Whoever reaches it may change notes and delete studies, without
            a password; another one than this machine's is for a container, whose ports are
            published elsewhere.
        opens: whether to open it in a browser.

    Raises:
        PortInUseError: `port`, or every port that was tried, is taken.
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
    """Returns a server of the dashboard that listens, and does not answer yet.

    Args:
        database: whose studies are shown.
        home: the state folder.
        best_yaml: returns the best setting of a study of ours.
        port: to listen on; None for the first free one from 8080.
        host: address to listen on.

    Raises:
        PortInUseError: `port`, or every port that was tried, is taken.
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
    """Whether a person sits before this machine's own screen, and can see what is opened."""
    is_remote = any(os.environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY", "CI"))
    has_display = sys.platform in {"darwin", "win32"} or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return sys.stdout.isatty() and has_display and not is_remote
