"""The user's words in a diary, which later versions of it keep.

A diary has places for them, each between two marked lines. Everything else is rewritten each time.
The last line has a digest of it, so that edits outside the places are detected, not lost.
Later releases read the marks back, so their wording must not change.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from canopy_search.dashboards.errors import DiaryError
from canopy_search.dashboards.formatting.values import printable

_DIARY = re.compile(r"\s*<!-- canopy diary of study: (.*) -->\s*")
_BEGIN = re.compile(r"\s*<!--\s*words:\s*(\S.*?)\s*-->\s*")
_END = re.compile(r"\s*<!--\s*end of words\s*-->\s*")
_LIKE_A_MARK = re.compile(r"\s*<!--\s*(?:words\b|end\s+of\s+words\b)", re.IGNORECASE)
_DIGEST = re.compile(r"\s*<!-- all but the words: sha256 ([0-9a-f]{64}) -->\s*")
# Characters that would end a comment, and the escape character itself.
_NOT_IN_COMMENTS = re.compile(r"%|<|>|--|-$")

Words = Mapping[str, str]


@dataclass(frozen=True)
class DiaryFile:
    """An existing diary.

    Attributes:
        words: place → the user's words there, without empty places.
        is_untouched: whether everything else is unchanged.
    """

    words: Words = field(default_factory=dict)
    is_untouched: bool = True


def place_name(text: str) -> str:
    """Returns a text as the name of a place: one line, escaped for an HTML comment."""
    line = " ".join(printable(text).split())
    return _NOT_IN_COMMENTS.sub(lambda found: "".join(f"%{ord(c):02X}" for c in found[0]), line)


def place(name: str, words: Words) -> list[str]:
    """Returns the lines of a place, with the user's words."""
    return [f"<!-- words: {name} -->", words.get(name, ""), "<!-- end of words -->", ""]


def diary_text(study: str, lines: Sequence[str]) -> str:
    """Returns a whole diary.

    Args:
        study: name of the study.
        lines: all lines except the first and the last.
    """
    text = "\n".join([f"<!-- canopy diary of study: {place_name(study)} -->", *lines]).rstrip("\n")
    return f"{text}\n\n<!-- all but the words: sha256 {_digest_of(text.split(chr(10)))} -->\n"


def read_diary_file(path: Path, study: str) -> DiaryFile:
    """Reads the user's words from a diary that will be replaced.

    Args:
        path: path of the file, which may be missing.
        study: the study whose diary it must be.

    Raises:
        DiaryError: it is not a diary of the study, or a mark is broken or duplicated; the message
            names the line.
    """
    if not path.is_file():
        return DiaryFile()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_a_diary(path) from error
    if not text.strip():
        return DiaryFile()
    lines = text.replace("\r\n", "\n").split("\n")
    found_study = next((found[1] for line in lines if (found := _DIARY.fullmatch(line))), None)
    if found_study is None:
        raise _not_a_diary(path)
    if found_study != place_name(study):
        raise DiaryError(
            f"{path}: it is the diary of study {found_study!r}, not of {study!r}; choose another "
            "--output, or move it away"
        )
    words = _words_of(path, lines)
    digests = [found[1] for line in lines if (found := _DIGEST.fullmatch(line))]
    return DiaryFile(words, is_untouched=digests[-1:] == [_digest_of(lines)])


def _not_a_diary(path: Path) -> DiaryError:
    return DiaryError(
        f"{path}: it exists and is not a Canopy diary, so it is not replaced; choose another "
        "--output, or move it away"
    )


def _words_of(path: Path, lines: Sequence[str]) -> Words:
    """Returns the words between the marks, by place."""
    words: dict[str, str] = {}
    first_lines: dict[str, int] = {}
    name: str | None = None
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if begin := _BEGIN.fullmatch(line):
            if name is not None:
                raise DiaryError(
                    f"{where}: this place for words starts inside the one of line "
                    f"{first_lines[name]}; add <!-- end of words --> at the end of that one"
                )
            name = begin[1]
            if name in first_lines:
                raise DiaryError(
                    f"{where}: the place for words {name!r} is already in line "
                    f"{first_lines[name]}; remove one of them"
                )
            first_lines[name] = number
        elif _END.fullmatch(line):
            if name is None:
                raise DiaryError(
                    f"{where}: end of words without a start; restore the line <!-- words: … --> "
                    "above it, or remove this line"
                )
            written = "\n".join(lines[first_lines[name] : number - 1]).strip("\n")
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
            f"{path}, line {first_lines[name]}: these words have no end; add the line "
            "<!-- end of words --> after them"
        )
    return words


def _digest_of(lines: Sequence[str]) -> str:
    """Returns a digest without the words and without white space, which editors and git change."""
    digest = hashlib.sha256()
    is_within = False
    for line in lines:
        is_within = is_within and not _END.fullmatch(line)
        if not is_within and not _DIGEST.fullmatch(line):
            digest.update("".join(line.split()).encode())
        is_within = is_within or bool(_BEGIN.fullmatch(line))
    return digest.hexdigest()
