"""Reads ClearML's configuration from its variables, its file or canopy.yaml; asks no server."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from canopy_search.dashboards.errors import TrackerConfigError

# ClearML's own rules: variables override the file, and TRAINS_ is their former prefix.
_PREFIXES = ("CLEARML_", "TRAINS_")
_FILES = ("clearml.conf", "trains.conf")
DEFAULT_SOURCE = "ClearML's default"
DEFAULT_HOST = "https://api.clear.ml"

HOW_TO = (
    "run clearml-init, or set CLEARML_API_HOST, CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY"
)


@dataclass(frozen=True)
class ServerAddresses:
    """Addresses of the server in canopy.yaml, each None to use ClearML's own settings.

    Attributes:
        api: address of its API.
        web: address of its pages.
        files: address of its file server.
    """

    api: str | None = None
    web: str | None = None
    files: str | None = None


@dataclass(frozen=True)
class TrackerSettings:
    """How to connect to ClearML.

    Attributes:
        host: URL of its API server.
        source: where the URL is configured.
        missing: names of the keys that are missing or empty.
    """

    host: str
    source: str
    missing: tuple[str, ...]

    @property
    def is_usable(self) -> bool:
        """Whether all required keys are set."""
        return not self.missing


def tracker_settings(api: str | None = None) -> TrackerSettings | None:
    """Reads ClearML's variables and file; None if there are neither.

    Args:
        api: address of the API server that overrides theirs.

    Raises:
        TrackerConfigError: the file is missing or cannot be read.
    """
    file = _config_file()
    in_file = _read(file) if file is not None else {}
    keys = {
        "the access key": _variable("API_ACCESS_KEY") or in_file.get("access_key"),
        "the secret key": _variable("API_SECRET_KEY") or in_file.get("secret_key"),
    }
    host = _variable("API_HOST")
    token = os.environ.get("CLEARML_AUTH_TOKEN")
    if file is None and not api and not host and not token and not any(keys.values()):
        return None
    sources = {
        "clearml.api_server": api,
        "the environment": host,
        str(file): in_file.get("host"),
    }
    source = next((name for name, value in sources.items() if value), DEFAULT_SOURCE)
    missing = () if token else tuple(name for name, value in keys.items() if not value)
    return TrackerSettings(api or host or in_file.get("host") or DEFAULT_HOST, source, missing)


def shown_host(host: str) -> str:
    """Returns an address without user and password."""
    try:
        parts = urlsplit(host)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "a malformed address"
    if not parts.hostname:
        return "a malformed address" if "@" in host else host
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}{port}{parts.path}"


def _variable(name: str) -> str | None:
    values = (os.environ.get(prefix + name, "").strip() for prefix in _PREFIXES)
    return next((value for value in values if value), None)


def _config_file() -> Path | None:
    named = _variable("CONFIG_FILE")
    if named:
        return Path(os.path.expandvars(named)).expanduser()
    return next((file for name in _FILES if (file := Path.home() / name).exists()), None)


def _read(file: Path) -> dict[str, str]:
    """Returns host and keys from the file, under Canopy's names."""
    # Importing the SDK takes two seconds, and most users have no such file.
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
                name: next((text for path in options if (text := content.get(path, None))), "")
                for name, options in paths.items()
            }
    except OSError as error:
        raise TrackerConfigError(f"{file} cannot be read: {error.strerror}") from error
    except ParseBaseException as error:
        # The parser's message quotes the file, including its keys.
        raise TrackerConfigError(f"{file}, line {error.lineno}: cannot be parsed") from None
    except (ConfigException, AttributeError, TypeError, ValueError):
        raise TrackerConfigError(f"{file} is not a configuration of ClearML") from None
    return {name: str(value).strip() for name, value in found.items()}
