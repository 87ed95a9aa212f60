"""What the stub shows, as a page and as JSON, and how another process switches it."""

import html
import json
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from tests.clearml_stub.holdings import Document
from tests.clearml_stub.misbehaviour import KINDS

_PAGE = """<!doctype html><meta charset="utf-8"><title>ClearML stub</title>
<style>body{{font:15px sans-serif;margin:2em}}td,th{{text-align:left;padding:.2em .8em}}</style>
<h1>ClearML stub</h1>
<p>{counts}</p>
<table><tr><th>project<th>task<th>type<th>status<th>reason<th>tags<th>scalars<th>plots<th>lines</tr>
{rows}</table>
<p><a href="/holdings">holdings</a> · <a href="/requests">requests</a> ·
POST /misbehave {{"kind": {kinds}, "times": 1, "actions": "tasks.create"}} · POST /behave ·
POST /expire</p>
"""


class ControlHandler(BaseHTTPRequestHandler):
    """Shows what is held at ``/``, ``/holdings`` and ``/requests``; obeys POST."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    stub: ClassVar[Any]

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        if self.path == "/holdings":
            self._say(self.stub.snapshot())
        elif self.path == "/requests":
            self._say([{**asdict(each), "writes": each.writes} for each in self.stub.requests()])
        elif self.path == "/variables":
            self._say(self.stub.variables())
        else:
            self._send(200, _page(self.stub.snapshot()).encode(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/misbehave":
            try:
                self.stub.misbehave(**json.loads(content))
            except (TypeError, ValueError) as error:
                self._send(400, f"{error}\n".encode(), "text/plain")
                return
        elif self.path == "/behave":
            self.stub.behave()
        elif self.path == "/expire":
            self.stub.tokens.expire()
        else:
            self._send(404, b"unknown\n", "text/plain")
            return
        self._say({})

    def _say(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _page(held: Document) -> str:
    projects = {project["id"]: project["name"] for project in held["projects"]}
    rows = [
        [
            projects.get(task.get("project"), "–"),
            task["name"],
            task["type"],
            task["status"],
            task["status_reason"],
            ", ".join(task["tags"]),
            sum(event["type"] == "training_stats_scalar" for event in task["events"]),
            sum(event["type"] == "plot" for event in task["events"]),
            len(task["logs"]),
        ]
        for task in held["tasks"]
    ]
    cells = ("".join(f"<td>{html.escape(str(cell))}" for cell in row) for row in rows)
    counts = " · ".join(f"{len(part)} {name}" for name, part in held.items())
    return _PAGE.format(
        counts=counts, kinds=" | ".join(KINDS), rows="\n".join(f"<tr>{row}</tr>" for row in cells)
    )
