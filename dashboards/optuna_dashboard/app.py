"""The dashboard as one WSGI application: checks, Canopy's own pages, else optuna-dashboard."""

import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import optuna_dashboard
from optuna.artifacts import FileSystemArtifactStore

from canopy_search.dashboards.optuna_dashboard.guard import (
    RequestRefusedError,
    check_change,
    check_sender,
    guarded,
)
from canopy_search.dashboards.optuna_dashboard.pages import BestYaml, StudyPages
from canopy_search.dashboards.optuna_dashboard.publication import ADDRESS, Publication
from canopy_search.storage.connection.urls import DATABASE_FAILURES, failure_text
from canopy_search.storage.database import Database
from canopy_search.storage.errors import StorageError
from canopy_search.storage.study.studies import StudyStore

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

UPLOADS = "artifacts"
"""Folder of the user's uploads, below the state folder."""

_STATIC = re.compile(r"/(static/.*|favicon\.ico)")
_PAGE = re.compile(r"/dashboard(/.*)?")
_STUDY = re.compile(r"/api/studies/(\d+)")
_NOTE = re.compile(r"/api/studies/(\d+)(?:/\d+)?/note")
_TYPES = {
    None: "text/html",
    "best.yaml": "text/plain",
    "labels.csv": "text/csv",
    "trials.csv": "text/csv",
}
_OWN = re.compile(rf"{ADDRESS}/(\d+)(?:/([^/]+))?")


class Dashboard:
    """optuna-dashboard on the studies' own database, and Canopy's pages next to it.

    Args:
        database: an open one.
        uploads: folder of the files that users upload; it is created with the first one.
        best_yaml: returns the best configuration of a study of Canopy's.
    """

    def __init__(self, database: Database, uploads: Path, best_yaml: BestYaml) -> None:
        self._database = database
        self._store = StudyStore(database)
        self._pages = StudyPages(self._store, database, best_yaml)
        self._publication = Publication(self._store, database)
        self._optuna: WSGIApplication = optuna_dashboard.wsgi(
            self._store.optuna_storage, _Uploads(uploads)
        )

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answers a request."""
        path = "/" + environ["PATH_INFO"].strip("/")  # as optuna-dashboard reads it
        start_response = guarded(start_response, path)
        try:
            check_sender(environ)
            if not _STATIC.fullmatch(path):
                with self._database.engine.connect():  # optuna-dashboard would not say why it fails
                    pass
            if environ["REQUEST_METHOD"] in {"GET", "HEAD"}:
                return self._read(environ, start_response, path)
            return self._change(environ, start_response, path)
        except RequestRefusedError as error:
            return _refusal(start_response, error.status, str(error))
        except (*DATABASE_FAILURES, StorageError) as error:
            status = HTTPStatus.SERVICE_UNAVAILABLE
            return _refusal(start_response, status, failure_text(error))

    def _read(
        self, environ: "WSGIEnvironment", start_response: "StartResponse", path: str
    ) -> Iterable[bytes]:
        if found := _OWN.fullmatch(path):
            return self._own(start_response, int(found[1]), found[2])
        # A health check asks for the page too, but is not a browser that will show it.
        if _PAGE.fullmatch(path) and "text/html" in environ.get("HTTP_ACCEPT", ""):
            self._publication.on_page_loaded()
        elif found := _STUDY.fullmatch(path):
            study_id = int(found[1])
            if (name := self._store.name(study_id)) is not None:
                self._publication.update(study_id, name)
        return self._optuna(environ, start_response)

    def _change(
        self, environ: "WSGIEnvironment", start_response: "StartResponse", path: str
    ) -> Iterable[bytes]:
        check_change(path, _Searched(self._store))
        if found := _NOTE.fullmatch(path):
            # optuna-dashboard saves a note in several steps; Canopy must not read it in between.
            with self._store.changing_attributes(int(found[1])):
                return _with_body(self._optuna, environ, start_response)
        return _with_body(self._optuna, environ, start_response)

    def _own(
        self, start_response: "StartResponse", study_id: int, name: str | None
    ) -> Iterable[bytes]:
        """Answers with a page or a file of Canopy's."""
        study = self._store.name(study_id)
        made = None if study is None else self._pages.make(study, name)
        if made is None:
            reason = f"there is no study with id {study_id}, or it has no {name or 'report'} yet"
            return _refusal(start_response, HTTPStatus.NOT_FOUND, reason)
        headers = [
            ("Content-Type", f"{_TYPES[name]}; charset=utf-8"),
            ("Content-Length", str(len(made))),
            ("Cache-Control", "no-store"),
        ]
        if name is not None:
            headers.append(("Content-Disposition", f'attachment; filename="{name}"'))
        start_response("200 OK", headers)
        return [made]


class _Searched:
    """Says what workers are searching."""

    def __init__(self, store: StudyStore) -> None:
        self._store = store

    def study(self, study_id: int) -> bool:
        name = self._store.name(study_id)
        return name is not None and any(w.is_living for w in self._store.workers(name))

    def trial(self, trial_id: int) -> bool:
        study_id = self._store.study_of_trial(trial_id)
        return study_id is not None and self.study(study_id)


class _Uploads(FileSystemArtifactStore):
    """Optuna's store of files, in a folder that is created with the first one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Stores a file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        super().write(artifact_id, content_body)


def _with_body(
    app: "WSGIApplication", environ: "WSGIEnvironment", start_response: "StartResponse"
) -> Iterable[bytes]:
    """Passes a change on; an answer without content gets an empty JSON object as its body.

    optuna-dashboard 0.21 answers 204 to a change, and its page takes an answer without JSON for a
    failure: the note would be saved, and its editor stay open.
    """
    is_empty = False

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        nonlocal is_empty
        is_empty = status.startswith(str(HTTPStatus.NO_CONTENT.value))
        if is_empty:
            status = "200 OK"
            headers = [("Content-Type", "application/json"), ("Content-Length", "2")]
        return start_response(status, headers, *rest)

    body = app(environ, start)
    return [b"{}"] if is_empty else body


def _refusal(start_response: "StartResponse", status: HTTPStatus, reason: str) -> Iterable[bytes]:
    body = json.dumps({"reason": reason}, ensure_ascii=False).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]
