"""A session with ClearML's server that has short timeouts and readable errors."""

import logging
import re
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import requests
from clearml.backend_api.session import BatchRequest, CompoundRequest, Request, Session
from clearml.backend_api.session.client import APIClient, APIError, StrictSession
from clearml.backend_api.session.session import LoginError
from jsonschema.exceptions import ValidationError
from jsonschema.validators import validator_for
from urllib3.exceptions import InsecureRequestWarning

from canopy_search.dashboards.clearml.credentials import (
    HOW_TO,
    TrackerSettings,
    shown_host,
)
from canopy_search.dashboards.errors import (
    TrackerRefusesError,
    TrackerRejectsError,
    TrackerUnavailableError,
)
from canopy_search.filestore.messages import first_line

CONNECT_LIMIT_S = 5.0
ANSWER_LIMIT_S = 20.0
UPLOAD_LIMIT_S = 120.0
OLDEST_API = "2.13"
"""Older APIs lack hyperparameters by section and the search for tasks by tag."""

_REFUSALS = (401, 403)
_NO_RETRIES = {"total": 0, "connect": 0, "read": 0, "redirect": 0, "status": 0}
# The SDK retries these errors for ever; it logs these texts before each retry.
_ENDLESS_RETRIES = ("SSLError", "Network decoding error", "Service unavailable")

Result = TypeVar("Result")


class _RetryStoppingLogger(logging.Logger):
    """Stops the SDK's endless retries: raises an error when the SDK logs one."""

    def warning(self, msg: object, *args: Any, **_kwargs: Any) -> None:
        text = str(msg) % args if args else str(msg)
        if text.startswith(_ENDLESS_RETRIES):
            raise TrackerUnavailableError(first_line(text).removesuffix(", retrying..."))


class _PromptSession(StrictSession):
    """The SDK's session, with short timeouts, because the mirror can retry later."""

    _session_initial_timeout = (CONNECT_LIMIT_S, ANSWER_LIMIT_S)
    _session_timeout = (CONNECT_LIMIT_S, ANSWER_LIMIT_S)
    _write_session_timeout = (CONNECT_LIMIT_S, ANSWER_LIMIT_S)
    _ssl_error_count_verbosity = 1

    def _apply_config_sections(self, local_logger: Any) -> None:
        """Does nothing: the SDK would set variables and write files that the server asks for."""

    def validate_request(self, req_obj: Request) -> None:
        """Validates a request against its schema, without checking the schema itself each time.

        That check takes the SDK longer than the rest of a request.
        """
        if isinstance(req_obj, BatchRequest | CompoundRequest):
            super().validate_request(req_obj)
        else:
            request: Any = type(req_obj)
            _validator(request).validate(req_obj.to_dict())


@cache
def _validator(request: Any) -> Any:
    schema = request._schema
    return validator_for(schema)(schema)


class TrackerSession:
    """One login to a server, and calls of its API over one connection.

    Args:
        settings: how to connect to the server.

    Attributes:
        server: address of the API, without credentials.

    Raises:
        TrackerUnavailableError: the server does not answer, or its answer is invalid.
        TrackerRefusesError: it refuses the credentials.
    """

    def __init__(self, settings: TrackerSettings) -> None:
        self.server = shown_host(settings.host.rstrip("/"))
        self._settings = settings
        self._secrets: list[str] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations in the SDK's own parser
            self._session = self._guarded(
                lambda: _PromptSession(
                    host=settings.host,
                    logger=_RetryStoppingLogger("canopy.clearml"),
                    http_retries_config=dict(_NO_RETRIES),
                )
            )
        # It has said so already, in one line.
        warnings.filterwarnings("ignore", category=InsecureRequestWarning)
        keys = (self._session.secret_key, self._session.access_key)
        self._secrets = [key for key in keys if key]
        if not Session.check_min_api_version(OLDEST_API):
            raise TrackerUnavailableError(
                f"its API has version {Session.api_version}, and Canopy needs {OLDEST_API} or "
                "later; update the server"
            )
        self.api_version = str(Session.max_api_version)
        self._client = APIClient(session=self._session)

    @property
    def wants_input_view(self) -> bool:
        """Whether a new task must have an empty view, as old servers require."""
        return not Session.check_min_api_version("2.20")

    @property
    def web(self) -> str | None:
        """Address of the server's pages; None if it is unknown."""
        return self._settings.web or self._known(Session.get_app_server_host)

    @property
    def files(self) -> str | None:
        """Address of the file server; None if it is unknown."""
        return self._settings.files or self._known(Session.get_files_server_host)

    def call(self, service: str, action: str, **fields: Any) -> Any:
        """Sends a request; returns the server's answer.

        Args:
            service: service of the API, such as ``tasks``.
            action: action of the service.
            fields: fields of the request, validated with the SDK's schema.

        Raises:
            TrackerUnavailableError: the server does not answer, or its answer is invalid.
            TrackerRefusesError: it refuses the credentials.
            TrackerRejectsError: it rejects the request.
        """
        method = getattr(getattr(self._client, service), action)

        def send() -> Any:
            try:
                return method(**fields)
            except APIError as error:
                if error.code != requests.codes.unauthorized:
                    raise
                # The token had expired. The SDK has a new one now, but repeated the request with
                # the old one.
                return method(**fields)

        return self._guarded(send)

    def upload(self, path: str, content: bytes, content_type: str) -> str:
        """Uploads a file to the file server; returns its URL.

        Args:
            path: path below the file server's address; only letters, digits and ``/-_.``.
            content: content of the file.
            content_type: its MIME type.

        Raises:
            TrackerUnavailableError: there is no file server, or it does not answer.
            TrackerRejectsError: it rejects the file.
        """
        host = self.files
        if host is None:
            raise TrackerRejectsError("the address of the file server is unknown")

        def send() -> requests.Response:
            # The SDK's own connection trusts the certificates that its configuration says.
            connection: requests.Session = vars(self._session)["_Session__http_session"]
            return connection.post(
                host,
                files={path: (path, content, content_type)},
                headers=self._session.add_auth_headers({}),
                timeout=(CONNECT_LIMIT_S, UPLOAD_LIMIT_S),
                allow_redirects=False,
            )

        answer = self._guarded(send)
        if answer.status_code >= 500 or answer.status_code == 429:
            raise TrackerUnavailableError(f"the file server answers with HTTP {answer.status_code}")
        if answer.is_redirect:
            raise TrackerRejectsError(
                "the file server redirects to another address; configure that one"
            )
        if answer.status_code != 200:
            raise TrackerRejectsError(f"the file server answers with HTTP {answer.status_code}")
        return f"{host.rstrip('/')}/{path}"

    def _known(self, find: Callable[[Any], str]) -> str | None:
        try:
            return shown_host(find(self._session.config).rstrip("/"))
        except ValueError:
            return None

    def _guarded(self, action: Callable[[], Result]) -> Result:
        try:
            return action()
        except APIError as error:
            raise self._api_problem(error) from None
        except LoginError as error:
            raise self._login_problem(str(error)) from None
        except requests.exceptions.RequestException as error:
            raise TrackerUnavailableError(_transport_reason(error)) from None
        except TrackerUnavailableError:
            raise
        except (ValidationError, TypeError) as error:
            text = str(getattr(error, "message", error))
            raise TrackerRejectsError(
                f"Canopy's request does not match the API: {self._without_secrets(text)}"
            ) from None
        except Exception as error:  # noqa: BLE001 - no failure of the SDK ends a mirror
            raise TrackerUnavailableError(
                f"its answer cannot be understood ({type(error).__name__})"
            ) from None

    def _api_problem(self, error: APIError) -> Exception:
        code = int(error.code or 0)
        text = self._without_secrets(str(error.message or ""))
        if code in _REFUSALS:
            return TrackerRefusesError(f"it refuses the credentials ({text}); {HOW_TO}")
        if 400 <= code < 500 and code != 429:
            return TrackerRejectsError(f"{code}/{error.subcode}: {text}")
        return TrackerUnavailableError(
            f"it answers with error {code}" if code != 200 else "its answer cannot be understood"
        )

    def _login_problem(self, text: str) -> Exception:
        found = re.search(r"\(error (\d+) from", text)
        if found and int(found[1]) in _REFUSALS:
            return TrackerRefusesError(f"it refuses the credentials; {HOW_TO}")
        if found:
            return TrackerUnavailableError(f"its login answers with HTTP {found[1]}")
        return TrackerUnavailableError(_transport_reason(text))

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return first_line(text)


def _transport_reason(error: object) -> str:
    """Returns a readable reason for a missing answer; the library's names addresses and objects."""
    text = f"{type(error).__name__} {error}"
    if code := re.search(r"too many (\d{3}) error responses", text):
        return f"it answers with HTTP {code[1]}"
    for pattern, reason in (
        (r"redirects|InvalidSchema", "it redirects to what is no API server; check its address"),
        (r"timed out|Timeout", "it does not answer in time"),
        (r"Connection refused", "the connection was refused; start it, or check its address"),
        (r"NameResolution|Name or service not known|getaddrinfo", "no host of this name is known"),
        (r"SSL|certificate", "its certificate is not trusted, or it does not use TLS"),
        (r"aborted|reset|IncompleteRead|RemoteDisconnected", "it closed the connection"),
    ):
        if re.search(pattern, text):
            return reason
    return "it cannot be reached"
