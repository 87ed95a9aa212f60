"""The check of ClearML: whether it is configured, and whether its server answers."""

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

from canopy_search.dashboards.clearml.credentials import (
    DEFAULT_SOURCE,
    shown_host,
    tracker_settings,
)
from canopy_search.dashboards.errors import TrackerConfigError
from canopy_search.search.doctor.finding import Finding, ok, warning

_ANSWER_LIMIT_S = 3
_LONGEST_ANSWER_BYTES = 65536

_ADDRESS = "name the API server, such as http://HOST:8008, in CLEARML_API_HOST or clearml.conf"
_AWAY = f"start the server, or {_ADDRESS}"
_LATE = (f"it does not answer within {_ANSWER_LIMIT_S} s", _AWAY)


def check_tracker() -> Iterator[Finding]:
    """Looks for ClearML's configuration, and asks its server for a sign of life.

    No key is sent, and none is shown.
    """
    try:
        settings = tracker_settings()
    except TrackerConfigError as problem:
        yield warning("ClearML", str(problem), "correct the file, or run clearml-init")
        return
    if settings is None:
        yield ok("ClearML", "not configured, which a search does not need (clearml-init does it)")
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
    silence = _silence(settings.host)
    if silence is not None:
        found, remedy = silence
        yield warning("ClearML", f"{where}: {found}", remedy)
    elif not settings.missing:
        yield ok("ClearML", f"{where} answers; its keys are there and were not tried")


def _silence(host: str) -> tuple[str, str] | None:
    """What is wrong with a server, and what to do; None if it answers as ClearML does in time."""
    outcomes: list[tuple[str, str] | None] = []
    # A socket's own limit bounds neither the look-up of a name nor an answer that comes in drops.
    asking = threading.Thread(target=lambda: outcomes.append(_ask(host)), daemon=True)
    asking.start()
    asking.join(_ANSWER_LIMIT_S)
    return outcomes[0] if outcomes else _LATE


def _ask(host: str) -> tuple[str, str] | None:
    """What `_silence` returns, in the server's own time."""
    shown = shown_host(host)
    if not shown.startswith(("http://", "https://")):
        return "that is no address of a web server", _ADDRESS
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
            return _LATE
        return f"it does not answer ({_reason_text(reason)})", _AWAY
    except (http.client.HTTPException, ValueError):
        return "what answers there speaks no HTTP", _ADDRESS
    try:
        code = json.loads(answer)["meta"]["result_code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        code = None
    return None if code == 200 else ("what answers there is not ClearML's API", _ADDRESS)


def _reason_text(reason: object) -> str:
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason)
