"""What the documentation says, as tests need it: links, headings, code, and commands in it."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^(`{3,})([^\n]*)\n(.*?)^\1$\n?", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_NO_SLUG = re.compile(r"[^\w\- ]")
_BETWEEN_COMMANDS = {"·", "&&", "|", ">", ";"}
_IMAGE = re.compile(r"canopy:(cpu|cuda)")


@dataclass(frozen=True)
class Block:
    """A block of code: the language that it names, and its text."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """Returns the blocks of code of a page."""
    return [Block(found[2].strip(), found[3]) for found in _FENCE.finditer(page)]


def prose(page: str) -> str:
    """Returns a page without its blocks of code."""
    return _FENCE.sub("", page)


def links(page: str) -> list[str]:
    """Returns where the links and pictures of a page lead."""
    return _LINK.findall(prose(page))


def anchors(page: str) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub names them."""
    return {
        _NO_SLUG.sub("", heading.strip().lower()).replace(" ", "-")
        for heading in _HEADING.findall(prose(page))
    }


def spans(page: str) -> list[str]:
    """Returns code within sentences; a span that goes on in the next line is one."""
    return [" ".join(span.split()) for span in _INLINE.findall(prose(page))]


def typed(block: Block) -> Iterator[list[str]]:
    """Yields what is typed in a block, split into words, without comments and variables."""
    if block.language not in {"", "bash", "sh"}:
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a program's output, with a single quote in it
            continue
        command: list[str] = []
        for word in [*words, ";"]:
            if word not in _BETWEEN_COMMANDS:
                command.append(word)
                continue
            while command and (command[0] == "export" or re.match(r"[A-Z_]+=", command[0])):
                del command[0]
            if command:
                yield command
            command = []


def canopy_arguments(words: list[str], services: set[str]) -> list[str] | None:
    """Returns the arguments of `canopy` in what is typed, None if it calls something else.

    Args:
        words: what is typed.
        services: of the compose file, in which `canopy` is the command that is run.
    """
    if Path(words[0]).name == "canopy":
        return words[1:]
    if words[:2] == ["docker", "run"]:
        return words[next(i for i, word in enumerate(words) if _IMAGE.fullmatch(word)) + 1 :]
    if words[:2] == ["docker", "exec"]:
        return words[words.index("canopy") + 1 :]
    if words[:3] == ["docker", "compose", "run"]:
        return words[next(i for i, word in enumerate(words) if word in services) + 1 :]
    return None
