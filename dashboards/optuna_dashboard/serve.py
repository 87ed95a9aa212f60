"""Serves the dashboard on this machine, and opens it in a browser."""

import os
import sys
import threading
import webbrowser
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Literal
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from canopy_search.dashboards.errors import PortInUseError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Host = Literal["127.0.0.1", "0.0.0.0"]  # noqa: S104 - opt-in, with a printed warning
HOST: Host = "127.0.0.1"
FIRST_PORT = 8080
PORTS_TRIED = 100


class _Server(ThreadingMixIn, WSGIServer):
    """Answers requests in parallel."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    """Logs no requests."""

    def log_message(self, *_arguments: Any) -> None:
        pass


def open_server(app: "WSGIApplication", host: Host, port: int | None) -> WSGIServer:
    """Returns a server that listens but does not answer yet.

    Args:
        app: the dashboard.
        host: address to listen on. Anyone who can reach it can change notes and delete studies
            without a password; 0.0.0.0 is meant for containers, which restrict it when they
            publish their ports.
        port: port to listen on; None for the first free one from 8080.

    Raises:
        PortInUseError: `port`, or every port that was tried, is in use.
    """
    ports = range(FIRST_PORT, FIRST_PORT + PORTS_TRIED) if port is None else [port]
    for number in ports:
        try:
            return make_server(host, number, app, _Server, _QuietHandler)
        except OSError:
            continue
    raise PortInUseError(f"port {ports[0]} is in use; choose another one with --port")


def serve(server: WSGIServer, say: Callable[[str], None], *, opens: bool) -> None:
    """Answers until it is interrupted.

    Args:
        server: from `open_server`; it is closed at the end.
        say: called with the address.
        opens: whether to open it in a browser.
    """
    with server:
        address = f"http://{HOST}:{server.server_port}/"
        if server.server_address[0] == HOST:
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


def is_desktop() -> bool:
    """Whether the user is at this machine's own screen, and can see a browser window."""
    is_remote = any(os.environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY", "CI"))
    has_display = sys.platform in {"darwin", "win32"} or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return sys.stdout.isatty() and has_display and not is_remote
