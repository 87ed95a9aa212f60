"""Reading and writing YAML 1.2, in which ``1e-3`` is a number and ``no`` is a word."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from search.errors import ConfigError


def read_yaml(path: Path) -> Any:
    """Reads one YAML document with plain values only.

    Raises:
        ConfigError: no such file, not text, not YAML, or a key that stands twice; with the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text; save it as UTF-8") from error
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = (error.problem or error.context or "not YAML").splitlines()[0]
        raise ConfigError(f"{path}{where}: {problem}") from error
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error


def _null(representer: RoundTripRepresenter, _nothing: None) -> ScalarNode:
    """Writes the word, which is clearer than no value at all."""
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
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    buffer = io.StringIO()
    writer.dump(value, buffer)
    return buffer.getvalue().removesuffix("\n").removesuffix("\n...")
