"""The documentation leads to what is there: links, commands, options, targets, settings."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from canopy_search.search.cli.lazy_group import COMMANDS, load_command
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.study.configuration import load_config
from tests.reading_docs import (
    PAGES,
    ROOT,
    anchors,
    blocks,
    canopy_arguments,
    links,
    prose,
    spans,
    typed,
)

TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text("utf-8") for page in PAGES}
FIGURES = {
    page.relative_to(ROOT).as_posix(): page.read_text("utf-8")
    for page in sorted((ROOT / "benchmarks").rglob("*.md"))
}
RESULTS = "benchmarks/RESULTS.md"
SERVICES = set(YAML(typ="safe").load(ROOT / "compose.yaml")["services"])
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
# What stands for what a person fills in: [--port N], FILE, ...
PLACEHOLDER = re.compile(r"[\[\]…]|\.\.\.")
# Documented, and nobody writes it by hand.
NO_SETTING = {"provenance"}


@pytest.mark.parametrize("name", [*TEXTS, *FIGURES])
def test_every_link_leads_somewhere(name: str) -> None:
    for link in links((TEXTS | FIGURES)[name]):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = ROOT / name if not path else (ROOT / name).parent / path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link


def test_the_page_of_results_leads_to_every_log() -> None:
    linked = {f"benchmarks/{link}".partition("#")[0] for link in links(FIGURES[RESULTS])}
    assert set(FIGURES) - linked == {RESULTS}


def test_the_readme_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in links(TEXTS["README.md"])}
    assert set(TEXTS) - linked - {"README.md"} == set()


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_typed_is_a_command_with_its_options(name: str) -> None:
    for block in blocks(TEXTS[name]):
        for words in typed(block):
            arguments = canopy_arguments(words, SERVICES)
            if arguments is not None:
                check_typed(arguments)
            if words[0] == "make" and len(words) > 1:
                assert words[1] in TARGETS, words


@pytest.mark.parametrize("name", TEXTS)
def test_a_command_within_a_sentence_is_there_too(name: str) -> None:
    for span in spans(TEXTS[name]):
        first, *rest = span.split()
        if first == "canopy" and rest and not rest[0].startswith("-"):
            command, words = resolved(rest)
            known = {option for parameter in command.params for option in parameter.opts}
            options = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert options <= known, span
        if first == "make" and rest:
            assert rest[0] in TARGETS, span


def test_the_readme_names_every_command() -> None:
    named = {span.split()[1] for span in spans(TEXTS["README.md"]) if span.startswith("canopy ")}
    assert set(COMMANDS) - named == set()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (name, block.text)
        for name, page in TEXTS.items()
        for block in blocks(page)
        if block.language == "yaml"
    ],
)
def test_configurations_are_valid(name: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "canopy.yaml"
    file.write_text(text)
    assert load_config(file).settings.data.labels, name


def test_every_setting_is_documented_and_no_other() -> None:
    cells = re.findall(r"^\| (`.+?`) \|", prose(TEXTS["docs/configuration.md"]), re.MULTILINE)
    documented: set[str] = set()
    for cell in cells:
        first, *others = re.findall(r"`([\w.]+)`", cell)
        section = first.rpartition(".")[0]
        documented |= {first, *(key if "." in key else f"{section}.{key}" for key in others)}
    expected = {key for key in keys_of(CanopyConfig) if key not in NO_SETTING}
    assert documented == expected


def keys_of(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Returns the settings of a file's sections by their dotted names."""
    found: set[str] = set()
    for key, field in model.model_fields.items():
        section = section_of(field.annotation) if not prefix and key != "confirm" else None
        found |= keys_of(section, f"{key}.") if section else {f"{prefix}{key}"}
    return found


def section_of(annotation: Any) -> type[BaseModel] | None:
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def resolved(words: list[str]) -> tuple[Any, list[str]]:
    """Returns the command that words name, and its arguments."""
    assert words[0] in COMMANDS, words
    command, rest = load_command(words[0]), words[1:]
    while hasattr(command, "commands") and rest:
        assert rest[0] in command.commands, words
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def check_typed(arguments: list[str]) -> None:
    """Parses arguments as the command line does, and runs nothing."""
    if not arguments or PLACEHOLDER.search(" ".join(arguments)):
        return
    command, rest = resolved(arguments)
    command.make_context(arguments[0], rest)
