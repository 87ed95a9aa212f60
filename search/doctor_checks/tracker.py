"""The check of ClearML: whether it is configured, and whether its server answers."""

import http.client
import json
import os
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from search.doctor_checks.finding import Finding, ok, warning

# ClearML's own rules: variables come before the file, and TRAINS_ is what they once began with.
_PREFIXES = ("CLEARML_", "TRAINS_")
_FILES = ("clearml.conf", "trains.conf")
_DEFAULT = "ClearML's default"
_DEFAULT_HOST = "https://api.clear.ml"

_ANSWER_LIMIT_S = 3
_LONGEST_ANSWER_BYTES = 65536

_ADDRESS = "name the API server, such as http://HOST:8008, in CLEARML_API_HOST or clearml.conf"
_AWAY = f"start the server, or {_ADDRESS}"
_LATE = (f"it does not answer within {_ANSWER_LIMIT_S} s", _AWAY)


class _ConfigurationError(Exception):
    """ClearML's file cannot be read; says in one line why."""


@dataclass(frozen=True)
class TrackerSettings:
    """How ClearML is reached.

    Attributes:
        host: URL of its API server.
        source: where that is said.
        missing: names of the keys that are missing or empty.
    """

    host: str
    source: str
    missing: tuple[str, ...]


def check_tracker() -> Iterator[Finding]:
    """Looks for ClearML's configuration, and asks its server for a sign of life.

    No key is sent, and none is shown.
    """
    try:
        settings = tracker_settings()
    except _ConfigurationError as problem:
        yield warning("ClearML", str(problem), "correct the file, or run clearml-init")
        return
    if settings is None:
        yield ok("ClearML", "not configured, which a search does not need (clearml-init does it)")
        return
    where = f"{_shown_host(settings.host)} by {settings.source}"
    if settings.missing:
        verb = "is" if len(settings.missing) == 1 else "are"
        yield warning(
            "ClearML",
            f"{where}: {' and '.join(settings.missing)} {verb} missing",
            "run clearml-init, or set CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY",
        )
    if settings.missing and settings.source == _DEFAULT:
        return
    silence = _silence(settings.host)
    if silence is not None:
        found, remedy = silence
        yield warning("ClearML", f"{where}: {found}", remedy)
    elif not settings.missing:
        yield ok("ClearML", f"{where} answers; its keys are there and were not tried")


def tracker_settings() -> TrackerSettings | None:
    """Reads ClearML's variables and file; None where there is neither.

    Raises:
        _ConfigurationError: the file is missing or cannot be read.
    """
    file = _config_file()
    in_file = _read(file) if file is not None else {}
    keys = {
        "the access key": _variable("API_ACCESS_KEY") or in_file.get("access_key"),
        "the secret key": _variable("API_SECRET_KEY") or in_file.get("secret_key"),
    }
    host = _variable("API_HOST")
    token = os.environ.get("CLEARML_AUTH_TOKEN")
    if file is None and not host and not token and not any(keys.values()):
        return None
    sources = {"the environment": host, str(file): in_file.get("host")}
    source = next((name for name, value in sources.items() if value), _DEFAULT)
    missing = () if token else tuple(name for name, value in keys.items() if not value)
    return TrackerSettings(host or in_file.get("host") or _DEFAULT_HOST, source, missing)


def _variable(name: str) -> str | None:
    values = (os.environ.get(prefix + name, "").strip() for prefix in _PREFIXES)
    return next((value for value in values if value), None)


def _config_file() -> Path | None:
    named = _variable("CONFIG_FILE")
    if named:
        return Path(os.path.expandvars(named)).expanduser()
    return next((file for name in _FILES if (file := Path.home() / name).exists()), None)


def _read(file: Path) -> dict[str, str]:
    """What the file says of host and keys, with names of our own."""
    # The SDK takes two seconds to import, and most people have no such file.
    from clearml.utilities.pyhocon import ConfigFactory
    from clearml.utilities.pyhocon.exceptions import ConfigException
    from pyparsing import ParseBaseException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parse: Any = ConfigFactory.parse_string
            content = parse(file.read_text("utf-8"), str(file.parent))
            paths = {
                "host": ("api.api_server", "api.host"),
                "access_key": ("api.credentials.access_key",),
                "secret_key": ("api.credentials.secret_key",),
            }
            found = {
                name: next((text for path in each if (text := content.get(path, None))), "")
                for name, each in paths.items()
            }
    except OSError as error:
        raise _ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    except ParseBaseException as error:
        # What the parser says quotes the file, and with it the keys.
        raise _ConfigurationError(f"{file}, line {error.lineno}: cannot be parsed") from None
    except (ConfigException, AttributeError, TypeError, ValueError):
        raise _ConfigurationError(f"{file} is not a configuration of ClearML") from None
    return {name: str(value).strip() for name, value in found.items()}


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
    shown = _shown_host(host)
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


def _shown_host(host: str) -> str:
    """The address without a user and a password."""
    try:
        parts = urlsplit(host)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "a malformed address"
    if not parts.hostname:
        return "a malformed address" if "@" in host else host
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}{port}{parts.path}"
