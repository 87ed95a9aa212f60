"""Checks of a YAML document of settings: plain values and plain names, each name once."""

from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from canopy_search.dashboards.formatting.values import is_harmless
from canopy_search.search.config.quoting import shown_key, shown_text

# Far more than a configuration has, and few enough to read: nested aliases can expand to more
# values than fit into memory.
MAX_DEPTH = 20
MAX_NODES = 20_000

_PREFIX = "tag:yaml.org,2002:"
_CONTAINERS = {f"{_PREFIX}map", f"{_PREFIX}seq"}
_NUMBERS = {f"{_PREFIX}int": "whole number", f"{_PREFIX}float": "number"}
_TEXT = f"{_PREFIX}str"
_MERGE = f"{_PREFIX}merge"
_DATE = f"{_PREFIX}timestamp"
_LARGEST = 2**63 - 1


def node_problems(yaml: YAML, root: Node) -> list[tuple[int, str]]:
    """Returns the problems of a document: the line of each, counted from 1, and its message.

    Args:
        yaml: the parser that composed `root`.
        root: the document.
    """
    inspection = _Inspection(yaml)
    try:
        inspection.visit(root, (), 0)
    except _TooLargeError as error:
        return [(error.line, str(error))]
    return inspection.problems


class _TooLargeError(Exception):
    def __init__(self, message: str, node: Node) -> None:
        super().__init__(message)
        self.line = _line(node)


@dataclass
class _Inspection:
    yaml: YAML
    problems: list[tuple[int, str]] = field(default_factory=list)
    visited: int = 0

    def visit(self, node: Node, path: tuple[str, ...], depth: int) -> None:
        """Checks a node and everything below it, with aliases expanded."""
        self.visited += 1
        if self.visited > MAX_NODES:
            raise _TooLargeError(
                f"more than {MAX_NODES} values, aliases counted in full; write fewer", node
            )
        if depth > MAX_DEPTH:
            raise _TooLargeError(
                f"nested more than {MAX_DEPTH} levels deep; settings have only a few levels",
                node,
            )
        if self._has_own_tag(node):  # such as !!python/object, which a safe loader must not create
            tag = shown_key(str(node.tag).replace(_PREFIX, "!!"))
            self._add(node, path, f"the tag {tag} has no meaning here; remove the tag")
        elif isinstance(node, MappingNode):
            self._visit_mapping(node, path, depth)
        elif isinstance(node, SequenceNode):
            for index, item in enumerate(node.value):
                self.visit(item, (*path[:-1], f"{path[-1] if path else ''}[{index}]"), depth + 1)
        else:
            self._check_scalar(node, path)

    def _visit_mapping(self, node: Node, path: tuple[str, ...], depth: int) -> None:
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._add(
                    key,
                    path,
                    "expected a name, found a list or a mapping; put text that starts with [ or { "
                    "in quotes",
                )
                continue
            inner = (*path, shown_key(key.value))
            if key.tag not in {_TEXT, _MERGE} or key.value == "":
                what = shown_text(key.value) if key.value else "nothing"
                remedy = "; write decimals with a point" if key.tag in _NUMBERS else ""
                self._add(key, path, f"expected a name, found {what}{remedy}")
            elif key.value in lines:
                message = f"appears twice, first in line {lines[key.value]}; remove one"
                self._add(key, inner, message)
            elif not is_harmless(key.value):
                self._add(key, inner, "control characters in a name; remove them")
            lines.setdefault(key.value, _line(key))
            self.visit(value, inner, depth + 1)

    def _has_own_tag(self, node: Node) -> bool:
        """Whether an explicit tag changes the type of the value."""
        if not isinstance(node, ScalarNode):
            return node.tag not in _CONTAINERS
        if node.tag == _TEXT:
            return False
        plain = node.style is None or node.style == ""
        looks = self.yaml.resolver.resolve(ScalarNode, node.value, (plain, not plain))
        return bool(looks != node.tag)

    def _check_scalar(self, node: Node, path: tuple[str, ...]) -> None:
        if node.tag == _TEXT:
            if not is_harmless(node.value):
                self._add(
                    node,
                    path,
                    f"control characters or line breaks in {shown_text(node.value)}; "
                    "write plain text on one line",
                )
        elif node.tag in _NUMBERS or node.tag == _DATE:
            what = _NUMBERS.get(node.tag, "date")
            try:
                # Python reads no more than 4300 digits.
                value = (
                    _LARGEST + 1
                    if len(node.value) > 4000
                    else self.yaml.constructor.construct_object(node)
                )
            except ValueError:
                self._add(
                    node,
                    path,
                    f"{shown_text(node.value)} looks like a {what} but cannot be read as one; "
                    "correct it, or put text in quotes",
                )
                return
            if isinstance(value, int) and abs(value) > _LARGEST:
                self._add(
                    node,
                    path,
                    f"found a whole number of {len(node.value)} characters; "
                    f"expected at most {_LARGEST}",
                )
        elif node.tag not in {f"{_PREFIX}null", f"{_PREFIX}bool"}:
            self._add(node, path, f"found {shown_text(node.value)}; put text in quotes")

    def _add(self, node: Node, path: tuple[str, ...], message: str) -> None:
        problem = (_line(node), f"{'.'.join(path)}: {message}" if path else message)
        if problem not in self.problems:  # an alias repeats the same problem
            self.problems.append(problem)


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1
