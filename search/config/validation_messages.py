"""pydantic's validation errors of a configuration → one plain line each."""

import re
from collections.abc import Iterable, Sequence
from datetime import date
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from canopy_search.search.config.quoting import found_text, shown_key
from canopy_search.search.config.settings import CanopyConfig, RangeSettings
from canopy_search.training.errors import nearest_hint

# pydantic's error type → what was expected; braces are filled from the error's context.
_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "path_type": "the path of a file or folder",
    "bands_type": "three bands, for red, green and blue, such as [3, 2, 1], or one, such as [4], "
    "where the first is 1",
    "range_type": "auto, or the pixel values of black and, above it, of white, such as [0, 4095]",
    "colour_type": "auto, none, white, black, or red, green and blue such as [128, 128, 128]",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of names to values",
    "model_type": "a mapping of names to values",
    "literal_error": "{expected}",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "at least {min_length} entry",
}
_PATTERNS = {r"^(auto|cpu|mps|cuda(:\d+)?)$": "auto, cpu, mps, cuda or cuda:1"}
_CONTAINERS = {"list_type", "tuple_type", "dict_type", "model_type"}
_WORDS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_WORDS |= {"true": "true", "false": "false", "1": "true", "0": "false"}
_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"

Steps = tuple[int | str, ...]


def problem_lines(error: ValidationError, document: Any) -> list[str]:
    """Returns a line for each wrong value: its key, what was expected and found, and a remedy.

    Args:
        error: pydantic's error.
        document: the validated document.
    """
    details = error.errors(include_url=False)
    grouped: dict[Steps, list[ErrorDetails]] = {}
    for detail in details:
        grouped.setdefault(_steps(detail, document), []).append(detail)
    # Drops errors of the wrong branches of a union where a nested value has an error too.
    kept = {
        steps: [
            detail
            for detail in found
            if detail["type"] not in _CONTAINERS or not _has_deeper(steps, grouped)
        ]
        for steps, found in grouped.items()
    }
    return [line for steps, found in kept.items() if found for line in _lines(steps, found)]


def key_text(steps: Iterable[int | str]) -> str:
    """Returns the dotted name of a key: ``search.enqueue[0].gamma``."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{shown_key(step)}" if text else shown_key(step)
    return text


def _has_deeper(steps: Steps, others: Iterable[Steps]) -> bool:
    return any(len(other) > len(steps) and other[: len(steps)] == steps for other in others)


def _steps(detail: ErrorDetails, document: Any) -> Steps:
    """Returns the keys to a value, without the branches of unions that pydantic adds."""
    steps: list[int | str] = []
    value = document
    missing = detail["type"] == "missing"
    for step in detail["loc"][:-1] if missing else detail["loc"]:
        inside = (isinstance(value, dict) and step in value) or (
            isinstance(value, list) and isinstance(step, int)
        )
        if inside:
            steps.append(step)
            value = value[step]
    return (*steps, detail["loc"][-1]) if missing else tuple(steps)


def _lines(steps: Steps, details: Sequence[ErrorDetails]) -> list[str]:
    where = key_text(steps)
    prefix = f"{where}: " if where else ""
    lines, expected = [], []
    for detail in details:
        kind = detail["type"]
        if kind == "extra_forbidden":
            lines.append(f"{prefix}unknown key; {_key_hint(steps)}")
        elif kind == "missing":
            lines.append(f"{prefix}missing; add it")
        elif kind in _EXPECTED:
            expected.append(_EXPECTED[kind].format(**detail.get("ctx", {})))
        elif kind == "string_pattern_mismatch":
            pattern = str(detail["ctx"]["pattern"])
            expected.append(_PATTERNS.get(pattern, f"text like {pattern}"))
        else:
            lines.append(prefix + _uncapitalised(detail["msg"].removeprefix("Value error, ")))
    if expected:
        value = details[0]["input"]
        remedy = _remedy(details, value)
        lines.append(
            f"{prefix}expected {_alternatives(expected)}, found {found_text(value)}"
            + (f"; {remedy}" if remedy else "")
        )
    return lines


def _alternatives(expected: Sequence[str]) -> str:
    """Joins the alternatives of a union, without those that another one includes."""
    options = list(dict.fromkeys(expected))
    if "true or false" in options and "text" in options:
        return "a single value: a finite number, text, or true or false"
    if "a number" in options or "a finite number" in options:
        options = [option for option in options if option != "a whole number"]
    return " or ".join(options)


def _remedy(details: Sequence[ErrorDetails], value: Any) -> str:
    """Suggests what to write, if the intended value is clear from what was found."""
    kinds = {detail["type"] for detail in details}
    if value is None:
        return "write a value, or remove the key"
    if "bool_type" in kinds and "string_type" not in kinds:
        word = _WORDS.get(str(value).lower())
        return f"write {word}" if word else ""
    if kinds & {"int_type", "float_type"}:
        number = _meant_number(value, whole="float_type" not in kinds)
        return f"write {number}" if number else ""
    if kinds <= {"string_type", "path_type"} and not isinstance(value, dict | list):
        # A number such as 1e5 or 1_000 may not be shown as it was written.
        return "put it in quotes" + (f": '{value}'" if isinstance(value, int | date) else "")
    if kinds == {"literal_error"}:
        return _nearest_option(str(details[0]["ctx"]["expected"]), value)
    return _container_remedy(details, value)


def _nearest_option(expected: str, value: Any) -> str:
    options = re.findall(r"'([^']+)'", expected)
    nearest = get_close_matches(str(value).lower(), options, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else ""


def _container_remedy(details: Sequence[ErrorDetails], value: Any) -> str:
    """Suggests how to turn a value into the expected list or mapping."""
    models = {detail.get("ctx", {}).get("class_name") for detail in details}
    kinds = {detail["type"] for detail in details}
    if isinstance(value, str | int | float) and models & {"NamedSettings", "OptimizerSettings"}:
        return f"write {{name: {shown_key(value)}}}"
    if models & {"RangeSettings"}:
        return "write [a, b] or {low: 0.1, high: 1.0}"
    if kinds & {"list_type", "tuple_type"}:
        return "start it with '- '" if isinstance(value, dict) else f"write [{shown_key(value)}]"
    if kinds & {"dict_type", "model_type"}:
        return "write 'name: value' lines below it, indented"
    return ""


def _meant_number(value: Any, *, whole: bool) -> str:
    """Returns the intended number, or an empty string if it is not clear."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else ""
    if not isinstance(value, str):
        return ""
    text = value.strip()
    number = ""
    if re.fullmatch(_NUMBER, text):
        number = f"{text} without quotes"
    elif re.fullmatch(r"[-+]?\d+,\d+", text):
        number = text.replace(",", ".")
    elif found := re.fullmatch(rf"({_NUMBER})\s*(?:[A-Za-z]+|[x×]\s*\1)", text):
        number = found.group(1)
    elif (found := re.fullmatch(r"(\d{1,3})\s*%", text)) and not whole:
        number = f"{int(found.group(1)) / 100:g}"
    return "" if whole and "." in number else number


def _key_hint(steps: Steps) -> str:
    """Suggests the closest valid key, or the section that a key belongs to."""
    *section, key = steps
    known = _known_keys(section)
    sections = [
        name
        for name in ("data", "training", "search")
        if key in _sections()[name].model_fields and [name] != section
    ]
    if sections and not {str(key)} & set(known):
        return f"it belongs in {sections[0]}"
    return nearest_hint(str(key), known)


def _sections() -> dict[str, type[BaseModel]]:
    """Returns the settings class of each section of the configuration that has one."""
    return {
        name: models[0]
        for name, field in CanopyConfig.model_fields.items()
        if (models := _models(field.annotation))
    }


def _known_keys(steps: Sequence[int | str]) -> list[str]:
    """Returns the valid keys of the section that `steps` lead to."""
    model: type[BaseModel] = CanopyConfig
    for step in steps:
        if step not in model.model_fields:
            return list(RangeSettings.model_fields)
        models = _models(model.model_fields[str(step)].annotation)
        model = models[0] if models else RangeSettings
    return list(model.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    options = [annotation]
    if get_origin(annotation) in {Union, UnionType}:
        options = [option for option in get_args(annotation) if option is not NoneType]
    return [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]


def _uncapitalised(message: str) -> str:
    return message[:1].lower() + message[1:]
