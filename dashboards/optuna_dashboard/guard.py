"""Which requests are refused before optuna-dashboard sees them.

optuna-dashboard has no password and lets pages of any site read a study's files. So only requests
that a browser on this machine makes for the dashboard's own pages are let through: another Host
means that a site's name was made to point here, another Origin or Sec-Fetch-Site that a page of a
site asks. What users have uploaded is never shown as a page, where it could do as they can.
"""

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from canopy_search.dashboards.errors import DashboardError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?")
_RENAME = re.compile(r"/api/studies/\d+/rename")
_NOTE = re.compile(r"/api/studies/\d+(?:/\d+)?/note")
_STUDY = re.compile(r"/api/studies/(\d+)(?:/.*)?")
_TRIAL = re.compile(r"/api/(?:studies/\d+|trials)/(\d+)/.*")
_UPLOAD = re.compile(r"/artifacts/.*")
_FOR_ALL_SITES = "access-control-allow-origin"


class RequestRefusedError(DashboardError):
    """A request is refused.

    Args:
        status: of the answer.
        reason: what is wrong, and what to do.
    """

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def check_sender(environ: "WSGIEnvironment") -> None:
    """Checks that a request is for this machine and comes from the dashboard's own pages.

    Any port is accepted, because a container's port or an SSH tunnel may have another number.

    Raises:
        RequestRefusedError: it does not.
    """
    host, origin = environ.get("HTTP_HOST", "").lower(), environ.get("HTTP_ORIGIN")
    if not _HOST.fullmatch(host):
        raise RequestRefusedError(
            HTTPStatus.FORBIDDEN,
            f"the dashboard does not answer as {host or 'no Host'!r}; open it as http://127.0.0.1 "
            "or http://localhost with its port, from another machine through ssh -L",
        )
    if origin is not None and origin.lower() not in {f"http://{host}", f"https://{host}"}:
        raise RequestRefusedError(
            HTTPStatus.FORBIDDEN,
            f"a page of {origin!r} must not use the dashboard; open the dashboard itself",
        )
    # Browsers send no Origin for pictures, scripts and frames; a link may open a page.
    site = environ.get("HTTP_SEC_FETCH_SITE", "none")
    is_link = environ.get("HTTP_SEC_FETCH_DEST") == "document" and (
        environ["REQUEST_METHOD"] in {"GET", "HEAD"}
    )
    if site not in {"same-origin", "none"} and not is_link:
        raise RequestRefusedError(
            HTTPStatus.FORBIDDEN,
            "a page of another site must not use the dashboard; open the dashboard itself",
        )


class Searched(Protocol):
    """Says what workers are searching."""

    def study(self, study_id: int) -> bool:
        """Whether workers search the study of that id."""

    def trial(self, trial_id: int) -> bool:
        """Whether workers search the study of the trial of that id."""


def check_change(path: str, searched: Searched) -> None:
    """Checks that a request loses nothing of a search.

    Args:
        path: of the request, without a slash at the end.
        searched: says what workers are searching.

    Raises:
        RequestRefusedError: it renames a study, or changes more than notes and files of one that is
            searched.
    """
    if not path.isascii():  # optuna-dashboard would drop letters of it
        raise RequestRefusedError(HTTPStatus.NOT_FOUND, f"there is no {path!r}")
    if _RENAME.fullmatch(path):
        raise RequestRefusedError(
            HTTPStatus.BAD_REQUEST,
            "Renaming would copy the trials and delete the study, including everything that "
            "Canopy recorded about their epochs; rename it with: canopy studies rename",
        )
    if _NOTE.fullmatch(path):
        return
    study, trial = _STUDY.fullmatch(path), _TRIAL.fullmatch(path)
    if (study and searched.study(int(study[1]))) or (trial and searched.trial(int(trial[1]))):
        raise RequestRefusedError(
            HTTPStatus.CONFLICT,
            "Workers are searching this study, so only notes and files can be changed; "
            "stop them first: canopy stop",
        )


def guarded(start_response: "StartResponse", path: str) -> "StartResponse":
    """Returns a `start_response` that keeps answers out of other sites' pages.

    Args:
        start_response: that of the server.
        path: of the request.
    """
    own = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "SAMEORIGIN"}
    if _UPLOAD.fullmatch(path):
        own |= {"Content-Disposition": "attachment", "Content-Security-Policy": "sandbox"}

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        kept = [(name, value) for name, value in headers if name.lower() != _FOR_ALL_SITES]
        return start_response(status, [*kept, *own.items()], *rest)

    return start
