"""Reading and writing YAML 1.2, in which ``1e-3`` is a number and ``no`` is a word."""

import io
import os
import re
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import RoundTripRepresenter

from canopy_search.filestore.messages import first_line
from canopy_search.filestore.user_files import read_file
from canopy_search.search.config.quoting import shown_path, shown_text
from canopy_search.search.config.yaml_nodes import node_problems
from canopy_search.search.errors import ConfigError

# A thousand enqueued settings are 60 kB; a label file passed by mistake is larger.
MAX_BYTES = 256 * 1024

_IN_OUR_WORDS = {
    "expected a single document in the stream": (
        "a second document starts here; keep one document in the file"
    ),
    "mapping values are not allowed here": (
        "a colon is not allowed here; indent the keys of a mapping alike, and put a value that "
        "contains ': ' in quotes"
    ),
    "found unexpected end of stream": "an earlier quote is not closed; close it",
}


def read_yaml(path: Path) -> Any:
    """Reads one YAML document with plain values only.

    Raises:
        ConfigError: no such file, not text, not YAML, a value that is not plain, or a repeated
            name; one line per problem, with its line in the file.
    """
    where = shown_path(path)
    text = _text(path, where)
    yaml = YAML(typ="safe", pure=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ReusedAnchorWarning)
            root = yaml.compose(text)
        problems = [] if root is None else node_problems(yaml, root)
        if problems:
            lines = (f"{where}, line {line}: {message}" for line, message in problems)
            raise ConfigError("\n".join(lines))
        return None if root is None else yaml.constructor.construct_document(root)
    except MarkedYAMLError as error:
        line, problem = _syntax_problem(error, text)
        raise ConfigError(f"{where}, line {line}: {problem}") from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{where}, line {line}: the character {text[error.position]!a}, which YAML does not "
            "allow; is this a text file?"
        ) from error
    except ReusedAnchorWarning as error:
        raise ConfigError(
            f"{where}: two anchors (&) have the same name; give each its own"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{where}: nested too deeply for settings") from error
    except (YAMLError, ValueError, AssertionError) as error:  # the last: an unknown %YAML version
        raise ConfigError(f"{where}: not YAML 1.2: {first_line(error)}") from error


def _text(path: Path, where: str) -> str:
    """Returns the text of the file, or raises a ConfigError that explains the problem."""
    try:
        if path.is_dir():
            raise ConfigError(f"{where}: expected a configuration file, found a folder")
        content = read_file(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise ConfigError(f"{where}: {_missing(path)}") from error
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from error
    if not content.strip():
        raise ConfigError(f"{where}: the file is empty; `canopy init` writes one for your data")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{where}: the text is UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{where}, line {line}: not UTF-8 text, found the byte 0x{content[error.start]:02x}; "
            "save the configuration as UTF-8"
        ) from error
    if re.match(r"\s*<[!?A-Za-z]", text):
        raise ConfigError(f"{where}: expected YAML, found a web page or XML; save the file itself")
    return text


def _missing(path: Path) -> str:
    if path.is_symlink():
        return f"a link to {shown_text(os.readlink(path))}, which does not exist"  # noqa: PTH115 - as text
    try:
        names = sorted(
            file.name for file in path.parent.iterdir() if file.suffix in {".yaml", ".yml"}
        )
    except OSError:
        names = []
    nearest = get_close_matches(path.name, names, n=1)
    return "no such file" + (f"; did you mean {shown_text(nearest[0])}?" if nearest else "")


def _syntax_problem(error: MarkedYAMLError, text: str) -> tuple[int, str]:
    """Returns the line, counted from 1, and a description of the problem."""
    mark = error.problem_mark or error.context_mark
    problem, context = (first_line(words or "") for words in (error.problem, error.context))
    if mark is None:
        return 1, problem or context
    # YAML has fewer line breaks than str.splitlines.
    rows = re.split(r"\r\n|\r|\n", text)
    row = rows[mark.line] if mark.line < len(rows) else ""
    indentation = row[: len(row) - len(row.lstrip())]
    if "\t" in indentation or row[mark.column : mark.column + 1] == "\t":
        words = "a tab; YAML is indented with spaces, so replace it with spaces"
    elif context in _IN_OUR_WORDS:
        words = _IN_OUR_WORDS[context]
    elif problem in _IN_OUR_WORDS:
        words = _IN_OUR_WORDS[problem]
    else:
        started = error.context_mark.line if error.context_mark else mark.line
        where = f" that starts in line {started + 1}" if context and started != mark.line else ""
        words = f"not YAML: {problem} {context}".rstrip() + where
        if "cannot start any token" in problem or "undefined alias" in problem:
            words += "; put a value that starts this way in quotes"
    return mark.line + 1, words


def _null(representer: RoundTripRepresenter, _nothing: None) -> ScalarNode:
    """Writes ``null``, which is clearer than an empty value."""
    node: ScalarNode = representer.represent_scalar("tag:yaml.org,2002:null", "null")
    return node


def yaml_text(document: Any) -> str:
    """Returns `document`, plain values or ruamel's commented ones, as YAML."""
    writer = YAML()
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.width = 100
    writer.allow_unicode = True
    writer.representer.add_representer(type(None), _null)
    buffer = io.StringIO()
    writer.dump(document, buffer)
    return buffer.getvalue()


def flow_text(value: Any) -> str:
    """Returns a plain value as YAML on one line: ``{name: tpe}``, ``[a, b]``, ``"no: word"``."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = True
    writer.width = 2**20
    writer.allow_unicode = True
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment] # a flag
    buffer = io.StringIO()
    writer.dump(value, buffer)
    return buffer.getvalue().removesuffix("\n").removesuffix("\n...")
