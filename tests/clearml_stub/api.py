"""From a request to a reply: endpoint, token, schema, action, envelope."""

import json
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.clearml_stub.errors import ApiError, bad_value, no_items, unknown_endpoint
from tests.clearml_stub.events import EventActions
from tests.clearml_stub.holdings import Document, Holdings, new_id
from tests.clearml_stub.projects import ModelActions, ProjectActions
from tests.clearml_stub.schemas import NEWEST, check_request, request_class
from tests.clearml_stub.task_parts import TaskPartActions
from tests.clearml_stub.tokens import Tokens

JSON_LINES = "application/json-lines"
_VERSIONS = ("2.23", "2.20", "2.13", "2.9")
_READS = ("get_", "scalar_")


@dataclass(frozen=True)
class Recorded:
    """A request that came.

    Attributes:
        action: such as ``tasks.create``.
        version: of the API that was asked for.
        body: what was sent; of a batch the list of its items.
        status: of the reply, also if it was lost.
        problem: why it was refused.
        at_s: when, by `time.monotonic`.
    """

    action: str
    version: str
    body: Any
    status: int
    problem: str | None
    at_s: float

    @property
    def writes(self) -> bool:
        """Whether it is of a kind that changes what the server holds or says of a task."""
        if self.action in {"auth.login", "debug.ping"}:
            return False
        return not self.action.partition(".")[2].startswith(_READS)


class Api:
    """The API server without its sockets.

    Args:
        holdings: are read and changed.
        tokens: say who may.
    """

    def __init__(self, holdings: Holdings, tokens: Tokens) -> None:
        self.holdings, self.tokens = holdings, tokens
        self.recorded: list[Recorded] = []
        self._services: dict[str, Any] = {
            "tasks": TaskPartActions(holdings),
            "events": EventActions(holdings),
            "projects": ProjectActions(holdings),
            "models": ModelActions(holdings),
        }
        self._lock = threading.Lock()

    def call(
        self,
        action: str,
        version: str,
        headers: Mapping[str, str],
        content: bytes,
        query: Mapping[str, str],
    ) -> tuple[int, Document]:
        """Acts on a request.

        Returns:
            Status and envelope of the reply.
        """
        body: Any = None
        problem: str | None = None
        status, subcode, data = 200, 0, {}
        try:
            act = self._endpoint(action, version)
            if action not in {"auth.login", "debug.ping"}:
                self.tokens.check(headers.get("Authorization"))
            body = _parsed(content, headers.get("Content-Type", ""))
            with self._lock:
                data = act(body, headers, query)
        except ApiError as error:
            status, subcode, problem = error.code, error.subcode, str(error)
        except Exception:  # noqa: BLE001 - a defect of the stub has to show
            status, problem = 500, f"the stub failed: {traceback.format_exc()}"
        with self._lock:
            self.recorded.append(Recorded(action, version, body, status, problem, time.monotonic()))
        meta = {
            "id": new_id(),
            "trx": new_id(),
            "endpoint": {
                "name": action,
                "requested_version": version,
                "actual_version": "1.0",
            },
            "result_code": status,
            "result_subcode": subcode,
            "result_msg": problem or "OK",
            "error_stack": None,
            "error_data": {},
        }
        return status, {"meta": meta, "data": data}

    def snapshot(self) -> Document:
        """Returns everything that is held, as JSON values of the caller's own."""
        with self._lock:
            return dict(json.loads(json.dumps(self.holdings.as_json())))

    def requests(self) -> list[Recorded]:
        """Returns the requests that came so far."""
        with self._lock:
            return list(self.recorded)

    def _endpoint(self, action: str, version: str) -> Callable[..., Document]:
        service, _, name = action.partition(".")
        if action == "auth.login":
            return self._login
        if action == "debug.ping":
            return lambda *_: {}
        method = getattr(self._services.get(service), name, None)
        schemas = _schema_version(version)
        # Methods of ours that are no actions have no class in the SDK.
        if method is None or request_class(service, name, schemas) is None:
            raise unknown_endpoint(action)

        def act(body: Any, *_: object) -> Document:
            batched = isinstance(body, list)
            if batched != (action == "events.add_batch"):
                raise no_items() if not batched else bad_value("a batch is not expected")
            if not batched:
                check_request(service, name, schemas, body)
            return dict(method(body))

        return act

    def _login(self, _body: Any, headers: Mapping[str, str], query: Mapping[str, str]) -> Document:
        asked = query.get("expiration_sec")
        token = self.tokens.login(headers.get("Authorization"), int(asked) if asked else None)
        return {"token": token}


def _parsed(content: bytes, content_type: str) -> Any:
    """Returns the body of a request as the server reads it: a batch for JSON lines."""
    try:
        if content_type.partition(";")[0] == JSON_LINES:
            lines = content.decode().splitlines()
            return [json.loads(line, parse_constant=_refuse) for line in lines]
        parsed = json.loads(content or b"{}", parse_constant=_refuse) or {}
    except ValueError as error:
        raise bad_value(f"the body cannot be read: {error}") from error
    if not isinstance(parsed, dict):
        raise bad_value("an object is expected")
    return parsed


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _schema_version(version: str) -> str:
    """Returns the newest version with schemas that is not newer than the one asked for."""
    try:
        asked = _number(version)
    except ValueError as error:
        raise bad_value(f"request path has invalid version {version}") from error
    return next((known for known in _VERSIONS if _number(known) <= asked), NEWEST)


def _number(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor or 0)
