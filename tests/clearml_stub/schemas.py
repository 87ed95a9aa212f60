"""The official schemas of requests, as the SDK carries them, with unknown fields refused."""

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jsonschema

from tests.clearml_stub.errors import invalid as invalid_value
from tests.clearml_stub.errors import missing_fields, unknown_field

SERVICES = "clearml.backend_api.services"
NEWEST = "2.23"
"""The newest version of the API whose schemas clearml 2.1 has."""

# The server filters tasks by these too (`get_all_query_options` in its task.py), and the SDK lets
# them pass as extra fields; no schema names them.
_FILTERS = ("hyperparams.", "runtime.", "last_metrics.")
# The SDK puts how it sends a request into the request itself.
_METHOD = "method"

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def check_request(service: str, action: str, version: str, body: Mapping[str, Any]) -> None:
    """Raises ApiError if the schema of a request does not allow its body."""
    validator = request_validator(service, action, version)
    if validator is None:
        return
    known = {name: value for name, value in body.items() if name != _METHOD}
    if (service, action) == ("tasks", "get_all"):
        known = {name: value for name, value in known.items() if not name.startswith(_FILTERS)}
    for error in validator.iter_errors(known):
        where = ".".join(str(step) for step in error.absolute_path) or f"{service}.{action}"
        message = f"{where}: {error.message}"[:400]
        if error.validator == "additionalProperties":
            raise unknown_field(message)
        if error.validator == "required":
            raise missing_fields(message)
        raise invalid_value(message)


@cache
def request_class(service: str, action: str, version: str) -> Any:
    """Returns the SDK's class of a request; None if it has none."""
    try:
        module = importlib.import_module(f"{SERVICES}.v{version.replace('.', '_')}.{service}")
    except ImportError:
        return None
    for found in vars(module).values():
        if getattr(found, "_action", None) == action and found.__name__.endswith("Request"):
            return found
    return None


@cache
def request_validator(service: str, action: str, version: str) -> Any:
    """Returns what checks a request, unknown fields and NaN included; None without a schema."""
    found = request_class(service, action, version)
    schema = getattr(found, "_schema", None)
    if not schema or (service == "events" and action in {"add", "add_batch"}):
        return None
    return jsonschema.Draft7Validator(strict(schema))


def strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a schema in which no object has fields that it does not name."""
    made = dict(schema)
    for keyword in ("properties", "definitions", "patternProperties"):
        if keyword in made:
            made[keyword] = {name: strict(part) for name, part in made[keyword].items()}
    for keyword in ("oneOf", "anyOf", "allOf"):
        if keyword in made:
            made[keyword] = [strict(part) for part in made[keyword]]
    for keyword in ("items", "additionalProperties"):
        if isinstance(made.get(keyword), dict):
            made[keyword] = strict(made[keyword])
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    elif made.get("type") == "object":
        made.setdefault("additionalProperties", True)
    return made


def check_event(event: Mapping[str, Any]) -> str | None:
    """Returns why an event is not as the SDK's definition of its type says; None if it is."""
    kind = event.get("type")
    definition = _event_definitions().get(str(kind))
    if definition is None:
        return f"type: {kind!r} is none of {sorted(_event_definitions())}"
    fields, required = definition
    for name in required:
        if name not in event:
            return f"{kind}: {name} is missing"
    for name, value in event.items():
        check = fields.get(name)
        if check is None:
            return f"{kind}: unknown field {name!r}"
        problem = check(value)
        if problem:
            return f"{kind}: {name}: {problem}"
    return None


# Events come by the hundred, and a library for schemas takes longer than all the rest.
Check = Callable[[Any], str | None]


@cache
def _event_definitions() -> dict[str, tuple[dict[str, Check], tuple[str, ...]]]:
    schema = request_class("events", "add", NEWEST)._schema
    made = {}
    for definition in schema["definitions"].values():
        fields = definition.get("properties", {})
        if "const" in fields.get("type", {}):
            parts = {**fields, **schema["properties"]}
            checks = {name: _check(_resolved(part, schema)) for name, part in parts.items()}
            made[fields["type"]["const"]] = (checks, tuple(definition["required"]))
    return made


def _resolved(part: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = part.get("$ref")
    return schema["definitions"][reference.rpartition("/")[2]] if reference else part


def _check(part: Mapping[str, Any]) -> Check:
    named = part.get("type", [])
    names = [named] if isinstance(named, str) else list(named)
    types = tuple(found for name in names for found in _TYPES[name])
    items = _check(part["items"]) if isinstance(part.get("items"), dict) else None
    choices = part.get("enum", [part["const"]] if "const" in part else None)

    def check(value: Any) -> str | None:
        fits = isinstance(value, types) and (bool in types or not isinstance(value, bool))
        if types and not fits:
            return f"{value!r:.100} is not of type {' or '.join(names)}"
        if choices is not None and value not in choices:
            return f"{value!r:.100} is none of {choices}"
        if items is not None and isinstance(value, list):
            return next((problem for each in value if (problem := items(each))), None)
        return None

    return check
