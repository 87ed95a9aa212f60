"""What stands between a client and a server, and can refuse and be silent."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Passes bytes on between its own port and that of a server on this machine.

    Args:
        port: of the server.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._passes = threading.Event()
        self._passes.set()
        self.open()

    def open(self) -> None:
        """Lets clients in, at the same port as before."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=[listener], daemon=True).start()

    def shut(self) -> None:
        """Cuts all connections, and refuses new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Takes requests and passes none on, for the time of a ``with``."""
        self._passes.clear()
        try:
            yield
        finally:
            self._passes.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=[client], daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with (
            suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self._to)) as server,
            selectors.DefaultSelector() as selector,
        ):
            with self._lock:
                self._connections |= {client, server}
            other = {client: server, server: client}
            for end in other:
                selector.register(end, selectors.EVENT_READ)
            with suppress(OSError):
                while True:
                    for key, _ in selector.select():
                        end = key.fileobj
                        assert isinstance(end, socket.socket)
                        if not (content := end.recv(65536)):
                            return
                        self._passes.wait()
                        other[end].sendall(content)
            with self._lock:
                self._connections -= {client, server}
