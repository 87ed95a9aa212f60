"""The filters of ``get_all``, after `apiserver/database/model/base.py` of the server."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.clearml_stub.errors import bad_value, invalid
from tests.clearml_stub.holdings import Document

MAX_PAGE = 500
_OPERATORS = {"__$all": "all", "__$and": "all", "__$any": "in", "__$or": "in"}


def find(
    documents: Iterable[Document],
    request: Mapping[str, Any],
    *,
    lists: Sequence[str],
    patterns: Sequence[str] = ("name",),
) -> list[Document]:
    """Returns the documents that a request asks for, ordered, paged, and with the fields it wants.

    Args:
        documents: to choose from.
        request: of the client.
        lists: fields that are compared with lists of values; ``hyperparams.*`` stands for a family.
        patterns: fields that are searched for a regular expression.
    """
    found = [each for each in documents if _fits(each, request, lists, patterns)]
    for order in reversed(_order(request)):
        descending = order.startswith("-")
        path = order.lstrip("-+")
        found.sort(key=lambda each: _sortable(_at(each, path)), reverse=descending)
    start, size = _page(request)
    fields = request.get("only_fields") or ()
    return [_projected(each, fields) for each in found[start : start + size]]


def _fits(
    document: Document, request: Mapping[str, Any], lists: Sequence[str], patterns: Sequence[str]
) -> bool:
    hidden = "hidden" in document.get("system_tags", ())
    if hidden and not (request.get("search_hidden") or request.get("id")):
        return False
    for field, wanted in request.items():
        if wanted is None:
            continue
        if field in patterns:
            if wanted and not _search(wanted, _at(document, field), 0):
                return False
        elif any(field == name or _in_family(field, name) for name in lists):
            values = wanted if isinstance(wanted, list) else [wanted]
            if not _in_list(_at(document, field), values):
                return False
        elif field in {"_any_", "_all_"}:
            hits = [
                _search(wanted["pattern"], _at(document, path), re.IGNORECASE)
                for path in wanted.get("fields") or ()
            ]
            if hits and not (any(hits) if field == "_any_" else all(hits)):
                return False
    return True


def _in_family(field: str, name: str) -> bool:
    return name.endswith("*") and field.startswith(name[:-1])


def _in_list(value: Any, terms: Sequence[str | None]) -> bool:
    has = set(value) if isinstance(value, list) else {value} if value is not None else set()
    chosen: dict[str, set[str]] = {"in": set(), "all": set(), "nin": set()}
    context, together, negated = "in", all, False
    for term in terms:
        if term is None:
            continue
        if term in _OPERATORS:
            context = _OPERATORS[term]
            together = all if context == "all" else any
        elif term == "__$not":
            negated = True
        elif term == "__$nop":
            context = "in"
        elif term.startswith("__$"):
            raise bad_value(f"Unsupported operator {term}")
        else:
            excluded = negated or (term.startswith("-") and len(term) > 1)
            chosen["nin" if excluded else context].add(term[not negated and excluded :])
            negated = False
    verdicts = []
    if chosen["in"]:
        verdicts.append(bool(has & chosen["in"]))
    if chosen["all"]:
        verdicts.append(chosen["all"] <= has)
    if chosen["nin"]:
        verdicts.append(not has & chosen["nin"])
    if None in terms and not has:
        return True
    return together(verdicts) if verdicts else None not in terms


def _search(pattern: str, value: Any, flags: int) -> bool:
    try:
        expression = re.compile(pattern, flags)
    except re.error as error:
        raise bad_value(f"malformed regular expression {pattern!r}") from error
    values = value if isinstance(value, list) else [value]
    return any(isinstance(each, str) and expression.search(each) for each in values)


def _order(request: Mapping[str, Any]) -> list[str]:
    order = request.get("order_by") or []
    return [order] if isinstance(order, str) else list(order)


def _sortable(value: Any) -> tuple[bool, Any]:
    return value is not None, value if isinstance(value, int | float) else str(value)


def _page(request: Mapping[str, Any]) -> tuple[int, int]:
    page, size = request.get("page"), request.get("page_size", request.get("size"))
    if page is not None and page < 0:
        raise invalid("page must be >=0")
    if size is not None and size < 1:
        raise invalid("page_size must be >0")
    size = min(size or MAX_PAGE, MAX_PAGE)
    return (page or 0) * size, size


def _at(document: Any, path: str) -> Any:
    """What a dotted path leads to; names may hold dots themselves."""
    if path == "":
        return document
    if not isinstance(document, dict):
        return None
    steps = path.split(".")
    for length in range(1, len(steps) + 1):
        name = ".".join(steps[:length])
        if name in document:
            return _at(document[name], ".".join(steps[length:]))
    return None


def _projected(document: Document, fields: Sequence[str]) -> Document:
    wanted = [field for field in fields if not field.startswith("-")]
    skipped = {field[1:] for field in fields if field.startswith("-")}
    if not wanted:
        return {name: value for name, value in document.items() if name not in skipped}
    made: Document = {"id": document["id"]}
    for field in wanted:
        value = _at(document, field)
        if value is None:
            continue
        place, steps = made, field.split(".")
        for step in steps[:-1]:
            place = place.setdefault(step, {})
        place[steps[-1]] = value
    return made
