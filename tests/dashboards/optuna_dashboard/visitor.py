"""Asks the dashboard's application as a browser does, without a server, and sees what it wrote."""

import io
import json
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy

from canopy_search.dashboards.optuna_dashboard.app import Dashboard
from canopy_search.storage.database import Database

BROWSER = "text/html,application/xhtml+xml"


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        status: of HTTP.
        headers: by their names in small letters.
        body: as it came.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Visitor:
    """One who looks at the dashboard.

    Args:
        dashboard: the application.
    """

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard

    def get(self, address: str) -> Reply:
        return self.send("GET", address)

    def open(self, study_id: int) -> Any:
        """Loads the page of a study in a browser, which then asks for the study."""
        assert self.send("GET", f"/dashboard/studies/{study_id}", HTTP_ACCEPT=BROWSER).status == 200
        return self.study(study_id)

    def study(self, study_id: int) -> Any:
        reply = self.get(f"/api/studies/{study_id}")
        assert reply.status == 200, reply.body
        return reply.json()

    def send(self, method: str, address: str, document: Any = None, **headers: str) -> Reply:
        body = b"" if document is None else json.dumps(document).encode()
        place = urlsplit(address)
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": place.path,
            "QUERY_STRING": place.query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8080",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_HOST": "127.0.0.1:8080",
            "HTTP_ACCEPT_ENCODING": "",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            **headers,
        }
        told: dict[str, Any] = {}

        def start(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            told["status"], told["headers"] = status, headers

        parts = self._dashboard(environ, start)
        answer = b"".join(parts)
        if hasattr(parts, "close"):
            parts.close()
        replied = {name.lower(): value for name, value in told["headers"]}
        assert int(replied.get("content-length", len(answer))) == len(answer)
        return Reply(int(told["status"].split()[0]), replied, answer)


def stored(database: Database) -> dict[str, str]:
    """A digest of every table: who wrote anything is found out."""
    tables = sqlalchemy.inspect(database.engine).get_table_names()
    with database.engine.connect() as connection:
        return {
            name: str(
                connection.scalar(
                    sqlalchemy.text(
                        f"SELECT md5(coalesce(string_agg(t.xmin || t::text, '' ORDER BY t::text),"  # noqa: S608 - names of tables
                        f" '')) FROM {name} t"
                    )
                )
            )
            for name in tables
            if not name.startswith("canopy_worker")  # the worker lives, and says so
        }
