"""Servers that are no Postgres of ours: an old one, another service, one that says nothing."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

Answer = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[int]:
    """Answers every connection on 127.0.0.1 in its own way; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.settimeout(240)
                        answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def postgres_of_version(version: str) -> Answer:
    """Lets everybody in and says that it is of this version."""

    settings = {
        "server_version": version,
        "client_encoding": "UTF8",
        "DateStyle": "ISO, MDY",
        "standard_conforming_strings": "on",
    }

    def answer(connection: socket.socket) -> None:
        _hear_out(connection)
        connection.sendall(_message(b"R", struct.pack(">I", 0)))
        for name, value in settings.items():
            connection.sendall(_message(b"S", f"{name}\0{value}\0".encode()))
        connection.sendall(_message(b"Z", b"I"))
        connection.recv(1)

    return answer


def refusing_server(reason: str) -> Answer:
    """Refuses everybody in Latin-1, as a Postgres with such a locale does."""

    def answer(connection: socket.socket) -> None:
        _hear_out(connection)
        text = f"SFATAL\0C28000\0M{reason}\0\0".encode("latin-1")
        connection.sendall(_message(b"E", text))

    return answer


def web_server(connection: socket.socket) -> None:
    """Answers as HTTP does to what it does not understand."""
    connection.recv(64)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def mysql_server(connection: socket.socket) -> None:
    """Speaks first, as MySQL does."""
    connection.sendall(b"J\0\0\0\n8.0.36\0" + b"\0" * 60)
    connection.recv(64)


def ssh_server(connection: socket.socket) -> None:
    """Speaks first too, and its S reads like a yes to TLS."""
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
    connection.recv(64)


def closing_server(connection: socket.socket) -> None:
    """Hangs up."""
    connection.recv(64)


def silent_server(connection: socket.socket) -> None:
    """Says nothing until the other one gives up."""
    while connection.recv(64):
        pass


def _hear_out(connection: socket.socket) -> None:
    """Takes what a client of Postgres begins with, and wants neither TLS nor GSS."""
    while True:
        length, code = struct.unpack(">II", connection.recv(8, socket.MSG_WAITALL))
        connection.recv(length - 8)
        if code == 196608:
            return
        connection.sendall(b"N")


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack(">I", len(content) + 4) + content
