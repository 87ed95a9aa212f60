"""Which requests are refused before optuna-dashboard sees them.

optuna-dashboard has no password and lets pages of any site read a study's files. So only requests
that a browser on this machine makes for the dashboard's own pages are let through: another Host
means that a site's name was made to point here, another Origin that a page of a site asks.
"""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from canopy_search.dashboards.errors import DashboardError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?")
_RENAME = re.compile(r"/api/studies/\d+/rename")
_STUDY = re.compile(r"/api/studies/(\d+)")


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


def check_change(environ: "WSGIEnvironment", path: str, is_searched: Callable[[int], bool]) -> None:
    """Checks that a request loses nothing of a search.

    Args:
        environ: the request.
        path: its path, without a slash at the end.
        is_searched: whether workers search the study of that id.

    Raises:
        RequestRefusedError: it renames a study, or deletes one that is searched.
    """
    if _RENAME.fullmatch(path):
        raise RequestRefusedError(
            HTTPStatus.BAD_REQUEST,
            "Renaming would copy the trials and delete the study, including everything that "
            "Canopy recorded about their epochs.",
        )
    found = _STUDY.fullmatch(path)
    if found and environ["REQUEST_METHOD"] == "DELETE" and is_searched(int(found[1])):
        raise RequestRefusedError(
            HTTPStatus.CONFLICT, "Workers are searching this study; stop them first: canopy stop"
        )
