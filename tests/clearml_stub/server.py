"""The stub as servers on this machine: API, files, and a page that shows and switches."""

import io
import json
import re
import socket
import threading
from contextlib import suppress
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.clearml_stub.api import Api, Recorded
from tests.clearml_stub.holdings import Document, Holdings
from tests.clearml_stub.misbehaviour import DOWN, HANG, LOST, REFUSED, STATUSES, Misbehaviour, Mood
from tests.clearml_stub.page import ControlHandler
from tests.clearml_stub.schemas import NEWEST
from tests.clearml_stub.tokens import Tokens

HOST = "127.0.0.1"
ACCESS_KEY = "STUBACCESSKEY0000000"
SECRET_KEY = "stub-secret-that-must-not-be-seen-anywhere"
_HANGS_S = 600
_PATH = re.compile(r"/(?:v(?P<version>[\d.]+)/)?(?P<action>[a-z_]+\.[a-z_]+)")


class Stub:
    """A ClearML server of one's own.

    Args:
        port: of the API; 0 for a free one.
        control_port: of the page; likewise.
        api_version: that the server says it has; the web pages' addresses depend on it.
    """

    def __init__(self, port: int = 0, control_port: int = 0, api_version: str = "2.31") -> None:
        self.holdings = Holdings()
        self.tokens = Tokens(ACCESS_KEY, SECRET_KEY, api_version=api_version)
        self.api = Api(self.holdings, self.tokens)
        self.mood = Mood()
        self._api_port = Port(_handler(ApiHandler, self), port)
        self._files_port = Port(_handler(FilesHandler, self), 0)
        self._control_port = Port(_handler(ControlHandler, self), control_port)
        self._ports = (self._api_port, self._files_port, self._control_port)

    @property
    def url(self) -> str:
        return self._api_port.url

    @property
    def files_url(self) -> str:
        return self._files_port.url

    @property
    def web_url(self) -> str:
        return self._control_port.url

    def variables(self) -> dict[str, str]:
        """Returns the environment of somebody who has configured ClearML for this server."""
        return {
            "CLEARML_API_HOST": self.url,
            "CLEARML_WEB_HOST": self.web_url,
            "CLEARML_FILES_HOST": self.files_url,
            "CLEARML_API_ACCESS_KEY": ACCESS_KEY,
            "CLEARML_API_SECRET_KEY": SECRET_KEY,
        }

    def start(self) -> "Stub":
        for port in self._ports:
            port.open()
        return self

    def stop(self) -> None:
        self.mood.behave()
        for port in self._ports:
            port.give_up()

    def misbehave(self, kind: str, times: int | None = None, actions: str = "") -> None:
        """Goes wrong from now on; see `misbehaviour.Misbehaviour`."""
        self.behave()
        self.mood.misbehave(Misbehaviour(kind, times, actions))
        self.tokens.refuses = kind == REFUSED
        if kind == DOWN:
            self._api_port.close()
            self._files_port.close()

    def behave(self) -> None:
        """Works again."""
        was_down = self.mood.kind == DOWN
        self.mood.behave()
        self.tokens.refuses = False
        if was_down:
            self._api_port.open()
            self._files_port.open()

    def snapshot(self) -> Document:
        """Returns everything that is held, as JSON values."""
        return self.api.snapshot()

    def requests(self) -> list[Recorded]:
        """Returns the requests that came so far."""
        return self.api.requests()


class Port:
    """A server that can be closed, with all its connections, and opened again at its place."""

    def __init__(self, handler: type["Handler"], port: int) -> None:
        self._handler = handler
        self._server = self._bound(port)
        self._number = self._server.server_address[1]
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._number}"

    def open(self) -> None:
        self._server.server_activate()
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._thread = None
        self._server.server_close()
        self._server.cut()
        # Bound and not listening: connections are refused, and nobody else gets the port.
        self._server = self._bound(self._number)

    def give_up(self) -> None:
        """Closes it for good."""
        self.close()
        self._server.server_close()

    def _bound(self, port: int) -> "_Server":
        server = _Server((HOST, port), self._handler, bind_and_activate=False)
        server.server_bind()
        return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        """Breaks all connections."""
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """What all three have in common.

    Attributes:
        stub: whose requests these are.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    stub: ClassVar[Stub]

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""

    def content(self) -> bytes:
        """Returns the body of the request."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = io.BytesIO()
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                parts.write(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return parts.getvalue()
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        if len(content) < length:
            raise ConnectionAbortedError("the client ended in the middle of a request")
        return content

    def reply(self, status: int, content: bytes, kind: str = "application/json") -> None:
        """Sends a reply in one piece."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        buffer: list[bytes] = self.__dict__.pop("_headers_buffer")
        self.wfile.write(b"".join([*buffer, b"\r\n", content]))

    def misbehaves(self, action: str) -> bool:
        """Does to a request what the stub's mood says; returns whether that is all."""
        kind = self.stub.mood.strikes(action)
        self.loses = kind == LOST
        if kind == HANG:
            self.stub.mood.wait_until_well(_HANGS_S)
            self.close_connection = True
            return True
        if kind in STATUSES:
            status = STATUSES[kind]
            meta = {"result_code": status, "result_subcode": 0, "result_msg": "stub: as told"}
            meta |= {"id": "0", "trx": "0", "endpoint": {"name": action}}
            if status in {502, 503}:  # of the proxy before it
                self.reply(status, b"<html>unavailable</html>", "text/html")
            else:
                self.reply(status, json.dumps({"meta": meta, "data": {}}).encode())
            return True
        return False


class ApiHandler(Handler):
    """The API server: any method, a JSON body."""

    def do_GET(self) -> None:
        content = self.content()
        parts = urlsplit(self.path)
        found = _PATH.fullmatch(parts.path)
        action = found["action"] if found else parts.path
        if self.misbehaves(action):
            return
        version = (found and found["version"]) or NEWEST
        query = dict(parse_qsl(parts.query))
        status, envelope = self.stub.api.call(action, version, self.headers, content, query)
        if self.loses:
            self.close_connection = True
            return
        self.reply(status, json.dumps(envelope).encode())

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()


class FilesHandler(Handler):
    """The file server: uploads as forms, downloads and deletions by path."""

    def do_POST(self) -> None:
        content = self.content()
        if self.misbehaves("files.upload"):
            return
        head = f"Content-Type: {self.headers.get('Content-Type')}\r\n\r\n".encode()
        form = BytesParser(policy=HTTP).parsebytes(head + content)
        stored = []
        for part in form.iter_parts():
            path = str(part.get_param("name", header="content-disposition")).lstrip("/")
            payload = part.get_payload(decode=True)
            self.stub.holdings.files[path] = payload if isinstance(payload, bytes) else b""
            stored.append(path)
        if self.loses:
            self.close_connection = True
            return
        self.reply(200, json.dumps(stored).encode())

    def do_GET(self) -> None:
        self.content()
        if self.misbehaves("files.download"):
            return
        path = self._path()
        content = b"OK" if not path else self.stub.holdings.files.get(path)
        if content is None:
            self.reply(404, b"Not Found", "text/plain")
        else:
            self.reply(200, content, "application/octet-stream")

    def do_DELETE(self) -> None:
        self.content()
        if self.misbehaves("files.delete"):
            return
        gone = self.stub.holdings.files.pop(self._path(), None)
        self.reply(404 if gone is None else 200, json.dumps(self._path()).encode())

    def _path(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/")


def _handler(kind: Any, stub: Stub) -> Any:
    return type(kind.__name__, (kind,), {"stub": stub})
