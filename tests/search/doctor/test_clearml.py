import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.doctor import clearml as tracker
from canopy_search.search.doctor.clearml import check_tracker
from canopy_search.search.doctor.finding import Finding
from tests.storage.other_servers import serving, silent_server, ssh_server

ACCESS, SECRET = "ACCESS-hunter", "SECRET-hunter"
PONG = json.dumps({"meta": {"result_code": 200}, "data": {}})

Serve = Callable[..., str]


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without ClearML's file and variables, who needs no proxy and is patient."""
    monkeypatch.setattr(tracker, "_ANSWER_LIMIT_S", 240)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    for name in ("API_HOST", "API_ACCESS_KEY", "API_SECRET_KEY", "CONFIG_FILE"):
        monkeypatch.delenv(f"CLEARML_{name}", raising=False)
        monkeypatch.delenv(f"TRAINS_{name}", raising=False)
    monkeypatch.delenv("CLEARML_AUTH_TOKEN", raising=False)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a web server that answers everything alike; returns its address."""
    servers = []

    def start(answer: str = PONG, status: int = 200) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/debug.ping" else 404)
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, *_arguments: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def look() -> list[Finding]:
    findings = list(check_tracker())
    for finding in findings:
        text = f"{finding.found} {finding.remedy}"
        assert ACCESS not in text
        assert SECRET not in text
    return findings


def configure(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"CLEARML_{name}", value)


def write_file(folder: Path, host: str, secret: str = SECRET, name: str = "clearml.conf") -> Path:
    file = folder / name
    file.write_text(
        f"# written by clearml-init\napi {{\n  api_server: {host}\n"
        f'  credentials {{"access_key" = "{ACCESS}", "secret_key" = "{secret}"}}\n}}\n'
    )
    return file


def test_no_configuration_is_well() -> None:
    (finding,) = look()
    assert finding.status == "ok"
    assert "not configured" in finding.found
    assert "clearml-init" in finding.found


def test_configured_by_variables(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    host = serve()
    configure(monkeypatch, API_HOST=host + "/", API_ACCESS_KEY=ACCESS, API_SECRET_KEY=SECRET)
    (finding,) = look()
    assert finding.status == "ok"
    assert finding.found.startswith(f"{host}/ by the environment answers")


def test_configured_by_a_file(tmp_path: Path, serve: Serve) -> None:
    host = serve()
    file = write_file(tmp_path, host)
    (finding,) = look()
    assert finding.status == "ok"
    assert finding.found.startswith(f"{host} by {file} answers")


def test_a_file_that_a_variable_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, serve: Serve
) -> None:
    write_file(tmp_path, "http://127.0.0.1:9")
    named = write_file(tmp_path, serve(), name="other.conf")
    configure(monkeypatch, CONFIG_FILE=str(named))
    assert [finding.status for finding in look()] == ["ok"]


def test_variables_come_before_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, serve: Serve
) -> None:
    write_file(tmp_path, "http://127.0.0.1:9", secret="")
    configure(monkeypatch, API_HOST=serve(), API_SECRET_KEY=SECRET)
    assert [finding.status for finding in look()] == ["ok"]


def test_half_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, serve: Serve) -> None:
    write_file(tmp_path, serve(), secret=" ")
    (finding,) = look()
    assert finding.status == "warning"
    assert finding.found.endswith("the secret key is missing")
    assert "CLEARML_API_SECRET_KEY" in (finding.remedy or "")


def test_a_file_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: SnapshotAssertion
) -> None:
    configure(monkeypatch, CONFIG_FILE=str(tmp_path / "nowhere.conf"))
    (finding,) = look()
    assert finding.status == "warning"
    assert finding.found == words


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"api {{\n credentials {{ access_key: {ACCESS}\n", "line "),
        (f"api: {ACCESS}", "the access key and the secret key are missing"),
        ("\xff\xfe", "is not a configuration of ClearML"),
    ],
)
def test_a_broken_file(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "clearml.conf").write_bytes(content.encode("latin-1"))
    finding = look()[0]
    assert finding.status == "warning"
    assert said in finding.found


def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion) -> None:
    configure(
        monkeypatch,
        API_HOST="http://user:SECRET-hunter@127.0.0.1:9",
        API_ACCESS_KEY=ACCESS,
        API_SECRET_KEY=SECRET,
    )
    (finding,) = look()
    assert finding.status == "warning"
    assert finding.found == words


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ("<html>ClearML</html>", 200, "not ClearML's API"),
        ('{"meta": {"result_code": 500}}', 200, "not ClearML's API"),
        ("[]", 200, "not ClearML's API"),
        ("[" * 60_000, 200, "not ClearML's API"),
        ("", 404, "HTTP 404"),
    ],
)
def test_a_server_that_is_another(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, answer: str, status: int, said: str
) -> None:
    host = serve(answer, status)
    configure(monkeypatch, API_HOST=host, API_ACCESS_KEY=ACCESS, API_SECRET_KEY=SECRET)
    (finding,) = look()
    assert finding.status == "warning"
    assert said in finding.found
    assert "8008" in (finding.remedy or "")


def test_what_is_no_web_server(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, API_ACCESS_KEY=ACCESS, API_SECRET_KEY=SECRET)
    for answer, limit_s, said in (
        (ssh_server, 240, "not speak HTTP"),
        (silent_server, 0.1, "within"),
    ):
        monkeypatch.setattr(tracker, "_ANSWER_LIMIT_S", limit_s)
        with serving(answer) as port:
            configure(monkeypatch, API_HOST=f"http://127.0.0.1:{port}")
            (finding,) = look()
        assert finding.status == "warning"
        assert said in finding.found
    for host in ("api.example", "http://[", "file:///etc/passwd"):
        configure(monkeypatch, API_HOST=host)
        (finding,) = look()
        assert finding.status == "warning"


def test_an_answer_in_drops_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.recv(1024)
        for letter in itertools.chain(b"HTTP/1.1 200 OK\r\nServer: ", itertools.repeat(115)):
            connection.sendall(bytes([letter]))
            if stop.wait(0.1):
                return

    monkeypatch.setattr(tracker, "_ANSWER_LIMIT_S", 0.5)
    with serving(drip) as port:
        configure(
            monkeypatch,
            API_HOST=f"http://127.0.0.1:{port}",
            API_ACCESS_KEY=ACCESS,
            API_SECRET_KEY=SECRET,
        )
        (finding,) = look()
        stop.set()
    assert "within" in finding.found
