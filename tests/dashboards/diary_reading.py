"""Reads a diary back, by its own rules and none of the program's."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class ReadSection:
    """A section: its heading, its text, and the cells of its block by the first word of a line."""

    heading: str
    text: str
    block: dict[str, dict[str, tuple[str, str | None]]]


_CELL = re.compile(r"(\S+) ([.\d]+)(?: \(([+−±][.\d]+)\))?")


def sections_of(text: str) -> list[ReadSection]:
    found = []
    for part in text.split("\n## ")[1:]:
        heading, _, rest = part.partition("\n")
        block = {}
        for line in rest.partition("```\n")[2].partition("```")[0].splitlines():
            label, *cells = re.split(r" {3,}", line.strip())
            parsed = [_CELL.fullmatch(cell) for cell in cells]
            block[label] = {m[1]: (m[2], m[3]) for m in parsed if m}
            assert all(parsed), line
        found.append(ReadSection(heading, rest, block))
    return found


def signed(ours: float, theirs: float, digits: int) -> str:
    """What stands in brackets, worked out in another way than the program does."""
    difference = round(ours - theirs, digits)
    text = "%+.*f" % (digits, difference)  # noqa: UP031
    if set(text[1:]) <= {"0", "."}:
        return "±." + "0" * digits
    return text.replace("-", "−").replace("0.", ".", 1)
