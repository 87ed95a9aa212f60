"""Reads ClearML's configuration from its variables and its file; asks no server."""

import os
import warnings
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from canopy_search.dashboards.errors import TrackerConfigError
from canopy_search.filestore.user_files import read_file

# ClearML's own rules: variables override the file, and TRAINS_ is their former prefix.
_PREFIXES = ("CLEARML_", "TRAINS_")
_FILES = ("clearml.conf", "trains.conf")
_MOST_BYTES = 2**20
DEFAULT_SOURCE = "ClearML's default"
DEFAULT_HOST = "https://api.clear.ml"

HOW_TO = (
    "run clearml-init, or set CLEARML_API_HOST, CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY"
)


class ProjectServers(Protocol):
    """What a project's canopy.yaml says of the server, None where the user's own settings count."""

    @property
    def api_server(self) -> str | None:
        """Address of the API."""

    @property
    def web_server(self) -> str | None:
        """Address of the pages that links point to."""

    @property
    def files_server(self) -> str | None:
        """Address of the file server."""


@dataclass(frozen=True)
class TrackerSettings:
    """How to connect to ClearML.

    Attributes:
        host: URL of its API server.
        source: where the URL is configured.
        missing: names of the keys that are missing or empty.
        web: address of its pages; None to use ClearML's own settings.
        files: address of its file server, likewise.
    """

    host: str
    source: str
    missing: tuple[str, ...]
    web: str | None = None
    files: str | None = None

    @property
    def is_usable(self) -> bool:
        """Whether all required keys are set."""
        return not self.missing

    @property
    def is_unencrypted(self) -> bool:
        """Whether keys travel to another machine unencrypted."""
        scheme, host, _ = _server(self.host)
        try:
            is_here = host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            is_here = False
        return scheme == "http" and not is_here


def tracker_settings(project: ProjectServers | None = None) -> TrackerSettings | None:
    """Reads ClearML's variables and file; None if there are neither.

    Keys and files go only where the user's own configuration says: a project's canopy.yaml, which
    others may have written, cannot send them to another server, or unencrypted.

    Args:
        project: the ``clearml`` section of the project's canopy.yaml.

    Raises:
        TrackerConfigError: the file is missing or cannot be read, or the project names another
            server.
    """
    file = _config_file()
    in_file = _read(file) if file is not None else {}
    keys = {
        "the access key": _variable("API_ACCESS_KEY") or in_file.get("access_key"),
        "the secret key": _variable("API_SECRET_KEY") or in_file.get("secret_key"),
    }
    in_variable = _variable("API_HOST")
    token = os.environ.get("CLEARML_AUTH_TOKEN")
    if file is None and not in_variable and not token and not any(keys.values()):
        return None
    sources = {"the environment": in_variable, str(file): in_file.get("host")}
    source = next((name for name, value in sources.items() if value), DEFAULT_SOURCE)
    host = in_variable or in_file.get("host") or DEFAULT_HOST
    if project is not None:
        files = _variable("FILES_HOST") or in_file.get("files_host") or ""
        _check_project(project, host, files)
    return TrackerSettings(
        host,
        source,
        () if token else tuple(name for name, value in keys.items() if not value),
        project.web_server if project else None,
        project.files_server if project else None,
    )


def _check_project(project: ProjectServers, host: str, files: str) -> None:
    """Checks that a project names only servers of the user's.

    Args:
        project: the ``clearml`` section of its canopy.yaml.
        host: the user's API server.
        files: the user's file server; empty if it is on the host of the API server.

    Raises:
        TrackerConfigError: it names another one.
    """
    api_server, files_server = project.api_server, project.files_server
    if api_server and _server(api_server) != _server(host):
        raise TrackerConfigError(
            f"clearml.api_server: {api_server} is not the server that your keys are "
            f"for ({shown_host(host)}), so it gets none; if you trust it, set CLEARML_API_HOST to "
            "it, with the keys of that server"
        )
    if files_server and not (
        _server(files_server) == _server(files) or _server(files_server)[:2] == _server(host)[:2]
    ):
        raise TrackerConfigError(
            f"clearml.files_server: {files_server} is not a server of "
            f"{shown_host(host)}, so it gets no files; if you trust it, set CLEARML_FILES_HOST to "
            "it"
        )


def _server(address: str) -> tuple[str, str, int | None]:
    """Returns scheme, host and port of an address; empty ones if it is malformed."""
    try:
        parts = urlsplit(address.strip())
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "", "", None
    return parts.scheme, (parts.hostname or "").rstrip("."), port


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
    """Returns addresses and keys from the file, under Canopy's names."""
    # Importing the SDK takes two seconds, and most users have no such file.
    from clearml.utilities.pyhocon import ConfigFactory
    from clearml.utilities.pyhocon.exceptions import ConfigException
    from pyparsing import ParseBaseException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parse: Any = ConfigFactory.parse_string
            content = parse(read_file(file, _MOST_BYTES).decode(), str(file.parent))
            paths = {
                "host": ("api.api_server", "api.host"),
                "files_host": ("api.files_server",),
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
