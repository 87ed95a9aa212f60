"""optuna-dashboard with Canopy's notes, figures and files, as one WSGI application.

optuna-dashboard can read notes and figures from attributes of the study. But then they would have
to be written again after every epoch, next to the search, would be stale in between, and could
overwrite the user's own notes. So nothing is written: a request about a study is answered by a
separate optuna-dashboard on a view of that study at this moment (`views`), and the answer is
completed here. All other requests, including the user's edits, go to an optuna-dashboard on the
database itself.

Only the user's part of a note is stored. It is shown below Canopy's part, and the editor sends both
back as one text, which is split here.
"""

import io
import json
import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import optuna_dashboard

from canopy_search.dashboards.optuna_dashboard.files import FileShelf
from canopy_search.dashboards.optuna_dashboard.notes import words_in
from canopy_search.dashboards.optuna_dashboard.views import StudyViews
from canopy_search.storage.connection.urls import DATABASE_FAILURES, failure_text
from canopy_search.storage.errors import StorageError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_ABOUT_STUDY = re.compile(r"/(?:api/studies|csv|artifacts)/(\d+)(/.*)?")
_NOTE = re.compile(r"/api/studies/(\d+)(?:/(\d+))?/note")
_STUDY = re.compile(r"/api/studies/(\d+)")
_RENAME = re.compile(r"/api/studies/\d+/rename")
_PAGE = re.compile(r"/dashboard(/.*)?")
_ASSETS = {"/canopy.css": "text/css", "/canopy.js": "text/javascript"}
_HEAD = b"""\
<head>
    <link rel="stylesheet" href="/canopy.css">
    <script src="/canopy.js"></script>"""
_NO_RENAMING = (
    "Renaming would copy the trials and delete the study, including everything that Canopy "
    "recorded about their epochs."
)
_NO_DELETING = "Workers are searching this study; stop them first: canopy stop"
_CONDITIONS = ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH", "HTTP_RANGE")
# Without this, pages of any site could read a study's files.
_REMOVED_HEADERS = {"access-control-allow-origin", "content-length"}

Headers = list[tuple[str, str]]


class Pages:
    """The WSGI application.

    Args:
        views: views of the studies.
    """

    def __init__(self, views: StudyViews) -> None:
        self._views = views
        self._base: WSGIApplication = optuna_dashboard.wsgi(
            views.store.optuna_storage, FileShelf(views.uploads)
        )

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answers a request."""
        try:
            status, headers, body = self._answer(environ)
        except (*DATABASE_FAILURES, StorageError) as error:
            reason = failure_text(error)
            status, headers, body = _json(HTTPStatus.SERVICE_UNAVAILABLE, {"reason": reason})
        kept = [(name, value) for name, value in headers if name.lower() not in _REMOVED_HEADERS]
        start_response(status, [*kept, ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, environ: "WSGIEnvironment") -> tuple[str, Headers, bytes]:
        path = environ["PATH_INFO"].rstrip("/")
        if environ["REQUEST_METHOD"] in {"GET", "HEAD"}:
            return self._read(environ, path)
        try:
            status, headers, body = self._write(environ, path)
        finally:
            self._views.expire()
        if status.startswith(str(HTTPStatus.NO_CONTENT.value)):
            # Its pages expect JSON in every answer; they show a success without JSON as a failure.
            return _json(HTTPStatus.OK, {})
        return status, headers, body

    def _read(self, environ: "WSGIEnvironment", path: str) -> tuple[str, Headers, bytes]:
        if path in _ASSETS:
            content = files(__package__).joinpath(path[1:]).read_bytes()
            return "200 OK", [("Content-Type", f"{_ASSETS[path]}; charset=utf-8")], content
        if _PAGE.fullmatch(path):
            return self._page(environ)
        if found := _ABOUT_STUDY.fullmatch(path):
            return self._about_study(environ, path, int(found[1]))
        return _forward(self._base, environ)

    def _write(self, environ: "WSGIEnvironment", path: str) -> tuple[str, Headers, bytes]:
        if _RENAME.fullmatch(path):
            return _json(HTTPStatus.BAD_REQUEST, {"reason": _NO_RENAMING})
        if environ["REQUEST_METHOD"] == "DELETE" and (found := _STUDY.fullmatch(path)):
            view = self._views.view(int(found[1]))
            if view is not None and view.data.is_searched:
                return _json(HTTPStatus.CONFLICT, {"reason": _NO_DELETING})
        if found := _NOTE.fullmatch(path):
            trial_id = None if found[2] is None else int(found[2])
            return self._write_note(environ, int(found[1]), trial_id)
        return _forward(self._base, environ)

    def _page(self, environ: "WSGIEnvironment") -> tuple[str, Headers, bytes]:
        """Returns optuna-dashboard's single page, with Canopy's styles and script."""
        unconditional = {key: value for key, value in environ.items() if key not in _CONDITIONS}
        status, headers, body = _forward(self._base, unconditional)
        return status, headers, body.replace(b"<head>", _HEAD, 1)

    def _about_study(
        self, environ: "WSGIEnvironment", path: str, study_id: int
    ) -> tuple[str, Headers, bytes]:
        view = self._views.view(study_id)
        if view is None:
            return _forward(self._base, environ)
        status, headers, body = _forward(view.app, environ)
        if not _STUDY.fullmatch(path) or not _is_ok(status):
            return status, headers, body
        answer = json.loads(body)
        view.complete(answer)
        return status, headers, _dumped(answer)

    def _write_note(
        self, environ: "WSGIEnvironment", study_id: int, trial_id: int | None
    ) -> tuple[str, Headers, bytes]:
        """Stores the user's part of a note, without Canopy's part."""
        sent = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        shown_texts = self._views.shown
        try:
            note = json.loads(sent)
            note["body"] = words_in(
                note["body"], lambda text: shown_texts.knows((study_id, trial_id), text)
            )
            sent = _dumped(note)
        except (ValueError, TypeError, KeyError, AttributeError):
            pass  # optuna-dashboard rejects it
        status, headers, body = _forward(
            self._base,
            {**environ, "wsgi.input": io.BytesIO(sent), "CONTENT_LENGTH": str(len(sent))},
        )
        view = self._views.view(study_id)
        if status.startswith(str(HTTPStatus.CONFLICT.value)) and view is not None:
            answer = json.loads(body)
            answer["note"] = view.noted(trial_id, answer["note"])
            body = _dumped(answer)
        return status, headers, body


def _forward(app: "WSGIApplication", environ: "WSGIEnvironment") -> tuple[str, Headers, bytes]:
    """Passes a request to an application; returns its answer."""
    response: dict[str, Any] = {}

    def start(status: str, headers: Headers, _: Any = None) -> Callable[[bytes], object]:
        response["status"], response["headers"] = status, headers
        return lambda _: None

    answer = app(environ, start)
    try:
        body = b"".join(answer)
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
    return response["status"], response["headers"], body


def _is_ok(status: str) -> bool:
    return status.startswith(str(HTTPStatus.OK.value))


def _json(status: HTTPStatus, document: Any) -> tuple[str, Headers, bytes]:
    line = f"{status.value} {status.phrase}"
    return line, [("Content-Type", "application/json")], _dumped(document)


def _dumped(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
