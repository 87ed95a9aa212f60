"""The words that a person wrote into a diary, which the next one keeps.

A diary has places for them, each between two marked lines. What stands outside of them is written
anew each time. So that nothing a person wrote there is lost unseen, the last line has a digest.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from canopy_search.dashboards.errors import DiaryError
from canopy_search.dashboards.formatting.markdown import printable_line

_DIARY = re.compile(r"\s*<!-- canopy diary of study: (.*) -->\s*")
_BEGIN = re.compile(r"\s*<!--\s*words:\s*(\S.*?)\s*-->\s*")
_END = re.compile(r"\s*<!--\s*end of words\s*-->\s*")
_LIKE_A_MARK = re.compile(r"\s*<!--\s*(?:words\b|end\s+of\s+words\b)", re.IGNORECASE)
_DIGEST = re.compile(r"\s*<!-- all but the words: sha256 ([0-9a-f]{64}) -->\s*")
# What would end a comment, or stand for something else in it.
_NOT_IN_COMMENTS = re.compile(r"%|<|>|--|-$")

Words = Mapping[str, str]


@dataclass(frozen=True)
class DiaryFile:
    """A diary as it was written.

    Attributes:
        words: place → what a person wrote there; places where nobody did are left out.
        is_untouched: whether nothing else was changed in it.
    """

    words: Words = field(default_factory=dict)
    is_untouched: bool = True


def place_name(text: str) -> str:
    """Returns a text as the name of a place: on one line, and harmless in a comment."""
    line = " ".join(printable_line(text).split())
    return _NOT_IN_COMMENTS.sub(lambda found: "".join(f"%{ord(c):02X}" for c in found[0]), line)


def place(name: str, words: Words) -> list[str]:
    """Returns the lines of a place, with what a person wrote there."""
    return [f"<!-- words: {name} -->", words.get(name, ""), "<!-- end of words -->", ""]


def diary_text(study: str, lines: Sequence[str]) -> str:
    """Returns a whole diary.

    Args:
        study: its name.
        lines: all but the first and the last one.
    """
    text = "\n".join([f"<!-- canopy diary of study: {place_name(study)} -->", *lines]).rstrip("\n")
    return f"{text}\n\n<!-- all but the words: sha256 {_digest_of(text.split(chr(10)))} -->\n"


def read_diary_file(path: Path, study: str) -> DiaryFile:
    """Reads the words of a diary that is to be replaced.

    Args:
        path: of the file, which may be missing.
        study: that the diary must be of.

    Raises:
        DiaryError: it is something else, or a mark is broken or doubled; it names the line.
    """
    if not path.is_file():
        return DiaryFile()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_diary(path) from error
    if not text.strip():
        return DiaryFile()
    lines = text.replace("\r\n", "\n").split("\n")
    of_study = next((found[1] for line in lines if (found := _DIARY.fullmatch(line))), None)
    if of_study is None:
        raise _no_diary(path)
    if of_study != place_name(study):
        raise DiaryError(
            f"{path}: it is the diary of study {of_study!r}, not of {study!r}; choose another "
            "--output, or move it away"
        )
    words = _words_of(path, lines)
    digests = [found[1] for line in lines if (found := _DIGEST.fullmatch(line))]
    return DiaryFile(words, is_untouched=digests[-1:] == [_digest_of(lines)])


def _no_diary(path: Path) -> DiaryError:
    return DiaryError(
        f"{path}: it is there and no diary of Canopy's, so it is not replaced; choose another "
        "--output, or move it away"
    )


def _words_of(path: Path, lines: Sequence[str]) -> Words:
    """Returns what stands between marks."""
    words: dict[str, str] = {}
    begun: dict[str, int] = {}
    name: str | None = None
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if begin := _BEGIN.fullmatch(line):
            if name is not None:
                raise DiaryError(
                    f"{where}: a place for words begins within another one, that of line "
                    f"{begun[name]}; write <!-- end of words --> after its words"
                )
            name = begin[1]
            if name in begun:
                raise DiaryError(
                    f"{where}: the place for words {name!r} was in line {begun[name]} already; "
                    "remove one of them"
                )
            begun[name] = number
        elif _END.fullmatch(line):
            if name is None:
                raise DiaryError(
                    f"{where}: words end here that did not begin; write the line "
                    "<!-- words: … --> before them again, or remove this one"
                )
            written = "\n".join(lines[begun[name] : number - 1]).strip("\n")
            if written.strip():
                words[name] = written
            name = None
        elif _LIKE_A_MARK.match(line):
            raise DiaryError(
                f"{where}: the mark is broken; expected <!-- words: … --> or "
                "<!-- end of words --> and nothing else on the line"
            )
    if name is not None:
        raise DiaryError(
            f"{path}, line {begun[name]}: words begin here that never end; write "
            "<!-- end of words --> after them"
        )
    return words


def _digest_of(lines: Sequence[str]) -> str:
    """Returns a digest of all but words and white space, which editors and git change."""
    digest = hashlib.sha256()
    is_within = False
    for line in lines:
        is_within = is_within and not _END.fullmatch(line)
        if not is_within and not _DIGEST.fullmatch(line):
            digest.update("".join(line.split()).encode())
        is_within = is_within or bool(_BEGIN.fullmatch(line))
    return digest.hexdigest()
