"""The check of ClearML: whether it is configured, and whether its server answers."""

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

from canopy_search.dashboards.clearml.credentials import (
    DEFAULT_SOURCE,
    ProjectServers,
    shown_host,
    tracker_settings,
)
from canopy_search.dashboards.errors import TrackerConfigError
from canopy_search.search.doctor.finding import Finding, ok, warning

_ANSWER_LIMIT_S = 3
_LONGEST_ANSWER_BYTES = 65536

_ADDRESS = "set the API server, such as http://HOST:8008, in CLEARML_API_HOST or clearml.conf"
_UNREACHABLE_REMEDY = f"start the server, or {_ADDRESS}"
_TIMED_OUT = (f"it does not answer within {_ANSWER_LIMIT_S} s", _UNREACHABLE_REMEDY)


def check_tracker(project: ProjectServers | None = None) -> Iterator[Finding]:
    """Looks for ClearML's configuration, and pings the server that a search would be mirrored to.

    No key is sent, and none is shown.

    Args:
        project: the ``clearml`` section of the project's canopy.yaml.
    """
    try:
        settings = tracker_settings(project)
    except TrackerConfigError as failed:
        yield warning("ClearML", str(failed), "correct it, or run clearml-init")
        return
    if settings is None:
        yield ok("ClearML", "not configured; optional (configure it with clearml-init)")
        return
    where = f"{shown_host(settings.host)} by {settings.source}"
    if settings.missing:
        verb = "is" if len(settings.missing) == 1 else "are"
        yield warning(
            "ClearML",
            f"{where}: {' and '.join(settings.missing)} {verb} missing",
            "run clearml-init, or set CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY",
        )
    if settings.missing and settings.source == DEFAULT_SOURCE:
        return
    problem = _server_problem(settings.host)
    if problem is not None:
        found, remedy = problem
        yield warning("ClearML", f"{where}: {found}", remedy)
    elif not settings.missing:
        found = f"{where} answers; its keys are set and were not tried"
        advice = "; they travel unencrypted, so prefer https" if settings.is_unencrypted else ""
        yield ok("ClearML", found + advice)


def _server_problem(host: str) -> tuple[str, str] | None:
    """Returns a server's problem and its remedy; None if it answers in time as ClearML does."""
    outcomes: list[tuple[str, str] | None] = []
    # A socket's timeout covers neither name resolution nor an answer sent in small pieces.
    thread = threading.Thread(target=lambda: outcomes.append(_ping(host)), daemon=True)
    thread.start()
    thread.join(_ANSWER_LIMIT_S)
    return outcomes[0] if outcomes else _TIMED_OUT


def _ping(host: str) -> tuple[str, str] | None:
    """Returns what `_server_problem` returns, without its overall time limit."""
    shown = shown_host(host)
    if not shown.startswith(("http://", "https://")):
        return "this is not the URL of a web server", _ADDRESS
    request = f"{shown.rstrip('/')}/debug.ping"
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_LIMIT_S) as response:  # noqa: S310 - checked above
            answer = response.read(_LONGEST_ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answers with HTTP {error.code}, which is not ClearML's API", _ADDRESS
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return _TIMED_OUT
        return f"it does not answer ({_reason_text(reason)})", _UNREACHABLE_REMEDY
    except (http.client.HTTPException, ValueError):
        return "the server there does not speak HTTP", _ADDRESS
    try:
        code = json.loads(answer)["meta"]["result_code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        code = None
    return None if code == 200 else ("the server there is not ClearML's API", _ADDRESS)


def _reason_text(reason: object) -> str:
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason)
