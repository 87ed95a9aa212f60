"""Writes a diary, and keeps the user's words of the existing one.

A diary has places for them, each between two marked lines. Everything else is rewritten each time.
The last line has a digest of it, so that edits outside the places are detected, not lost.
Later releases read the marks back, so their wording must not change.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from statistics import fmean

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from canopy_search.dashboards.answer.confirmation_text import confirmation_rows
from canopy_search.dashboards.answer.headline import answer_of, findings
from canopy_search.dashboards.diary.contents import (
    Contents,
    place_name,
    read_contents,
)
from canopy_search.dashboards.errors import DiaryError
from canopy_search.dashboards.formatting.markdown import code, escaped, link
from canopy_search.dashboards.formatting.settings import (
    base_words,
    difference_words,
    intent_words,
    setting_words,
)
from canopy_search.dashboards.formatting.tables import counts_text, score_text, spent_text
from canopy_search.dashboards.formatting.values import (
    counted,
    difference_text,
    duration_text,
    listed_text,
    signed_text,
)
from canopy_search.dashboards.study.model import TrialData
from canopy_search.filestore.atomic import check_writable, write_atomically
from canopy_search.filestore.user_files import read_file
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore

_DIARY = re.compile(r"\s*<!-- canopy diary of study: (.*) -->\s*")
_BEGIN = re.compile(r"\s*<!--\s*words:\s*(\S.*?)\s*-->\s*")
_END = re.compile(r"\s*<!--\s*end of words\s*-->\s*")
_LIKE_A_MARK = re.compile(r"\s*<!--\s*(?:words\b|end\s+of\s+words\b)", re.IGNORECASE)
_DIGEST = re.compile(r"\s*<!-- all but the words: sha256 ([0-9a-f]{64}) -->\s*")

_MOST_NUMBERS = 12
_MOST_BYTES = 64 * 2**20

Words = Mapping[str, str]
"""Place → the user's words there, without empty places."""


def write_diary(
    store: StudyStore, database: Database, name: str, path: Path, *, drops_edits: bool = False
) -> int:
    """Writes the diary of a study, and keeps the user's words from the existing one.

    Args:
        store: the studies of the database.
        database: an open database.
        name: name of the study.
        path: path of the file.
        drops_edits: whether edits outside the places for words may be lost.

    Returns:
        Number of places where the user wrote something.

    Raises:
        DiaryError: the file is not a diary of the study, its marks are broken, or it has edits
            elsewhere; nothing is written.
        UnknownStudyError: there is no such study.
    """
    store.study_id(name)  # an unknown study is reported before problems of the file
    before = kept_words(path, name, drops_edits=drops_edits)
    contents = read_contents(store, database, name, places=set(before))
    # Read again, because the user may have edited the file meanwhile.
    words = kept_words(path, name, drops_edits=drops_edits)
    write_atomically(path, diary_text(contents, words).encode())
    return len(words)


def kept_words(path: Path, study: str, *, drops_edits: bool = False) -> Words:
    """Returns the user's words from a diary, after checking that it may be replaced.

    Args:
        path: path of the file, which may be missing.
        study: the study whose diary it must be.
        drops_edits: whether edits outside the places for words may be lost.

    Raises:
        DiaryError: it must not be replaced: it is not a diary of the study, a mark is broken or
            duplicated, or it has edits elsewhere. The message names the line, and what to do.
        OSError: it cannot be written.
    """
    text = read_file(path, _MOST_BYTES) if path.is_file() else b""
    words: Words = {}
    if text.strip():
        words, lines = _parsed(path, study, text)
        digests = [found[1] for line in lines if (found := _DIGEST.fullmatch(line))]
        if not drops_edits and digests[-1:] != [_digest_of(lines)]:
            raise DiaryError(
                f"{path}: it has edits outside the places for words, which would be lost; move "
                "them between the lines <!-- words: … --> and <!-- end of words -->, then run "
                "canopy diary --force"
            )
    check_writable(path)
    return words


def diary_text(contents: Contents, words: Words) -> str:
    """Returns the diary of a study; the same contents and words give the same text.

    Args:
        contents: what the diary shows.
        words: place → the user's words there.
    """
    text = _template().render(
        contents=contents, findings=findings(contents.study, answer_of(contents.study))
    )
    known = [found[1] for line in text.split("\n") if (found := _BEGIN.fullmatch(line))]
    lost = [name for name in words if name not in known]
    if lost:
        text += "\n\n## Words on sections that no longer exist"
    for name in lost:
        text += f"\n\nOn {escaped(name)}:\n\n<!-- words: {name} -->\n<!-- end of words -->"
    title = f"<!-- canopy diary of study: {place_name(contents.study.name)} -->"
    lines = [title, *re.sub(r"\n(?:[ \t]*\n){2,}", "\n\n", text).strip().split("\n")]
    written = []
    for line in lines:
        begin = _BEGIN.fullmatch(line)
        written += [line] if begin is None else [line, words.get(begin[1], "")]
    return "\n".join([*written, "", f"<!-- all but the words: sha256 {_digest_of(lines)} -->", ""])


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_as_markdown,
    )
    environment.filters |= {
        "code": lambda text: Markup(code(text)),  # noqa: S704 - escaped by `code`
        "base_intent": base_words,
        "counted": counted,
        "counts": counts_text,
        "day": _day,
        "difference": difference_text,
        "duration": duration_text,
        "intent": intent_words,
        "link": lambda text, url: Markup(link(text, url)),  # noqa: S704 - escaped by `link`
        "mean": fmean,
        "rows": confirmation_rows,
        "score": score_text,
        "setting": setting_words,
        "setting_difference": difference_words,
        "signed": signed_text,
        "spent": spent_text,
        "trials": _trials_text,
    }
    return environment.get_template("diary.md.j2")


def _as_markdown(value: object) -> Markup:
    """Returns a value as Markdown without markup, unless the template says that it is safe."""
    return value if isinstance(value, Markup) else Markup(escaped(value))  # noqa: S704 - escaped


def _day(instant: datetime | None) -> str:
    return "undated" if instant is None else f"{instant:%d.%m.%Y}"


def _trials_text(trials: Sequence[TrialData | int]) -> str:
    """Returns the numbers of trials; if there are many, only the first and the last."""
    numbers = [each if isinstance(each, int) else each.number for each in trials]
    if len(numbers) > _MOST_NUMBERS:
        return f"{len(numbers)} trials from {min(numbers)} to {max(numbers)}"
    return f"trial{'s' * (len(numbers) > 1)} {listed_text([str(each) for each in numbers])}"


def _parsed(path: Path, study: str, content: bytes) -> tuple[Words, list[str]]:
    """Returns the words in a diary, and its other lines."""
    try:
        lines = content.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        lines = []
    found_study = next((found[1] for line in lines if (found := _DIARY.fullmatch(line))), None)
    if found_study != place_name(study):
        what = "exists and is not a Canopy diary, so it is not replaced"
        if found_study is not None:
            what = f"is the diary of study {found_study!r}, not of {study!r}"
        raise DiaryError(f"{path}: it {what}; choose another --output, or move it away")
    words: dict[str, list[str]] = {}
    first_lines: dict[str, int] = {}
    others: list[str] = []
    name: str | None = None
    for number, line in enumerate(lines, start=1):
        begin, end = _BEGIN.fullmatch(line), _END.fullmatch(line)
        if problem := _problem(line, name, first_lines):
            raise DiaryError(f"{path}, line {number}: {problem}")
        if name is None or end:
            others.append(line)
        else:
            words[name].append(line)
        if begin:
            name = begin[1]
            words[name], first_lines[name] = [], number
        elif end:
            name = None
    if name is not None:
        raise DiaryError(
            f"{path}, line {first_lines[name]}: these words have no end; add the line "
            "<!-- end of words --> after them"
        )
    texts = {name: "\n".join(text).strip("\n") for name, text in words.items()}
    return {name: text for name, text in texts.items() if text.strip()}, others


def _problem(line: str, name: str | None, first_lines: Mapping[str, int]) -> str | None:
    """Returns what is wrong with a line as a mark, if anything is.

    Args:
        line: the line.
        name: name of the place that it is in; None outside.
        first_lines: place → number of its first line, so far.
    """
    begin, end = _BEGIN.fullmatch(line), _END.fullmatch(line)
    if begin and name is not None:
        return (
            f"this place for words starts inside the one of line {first_lines[name]}; add "
            "<!-- end of words --> at the end of that one"
        )
    if begin and begin[1] in first_lines:
        return (
            f"the place for words {begin[1]!r} is already in line {first_lines[begin[1]]}; remove "
            "one of them"
        )
    if end and name is None:
        return (
            "end of words without a start; restore the line <!-- words: … --> above it, or remove "
            "this line"
        )
    if not begin and not end and _LIKE_A_MARK.match(line):
        return (
            "the mark is broken; expected <!-- words: … --> or <!-- end of words --> and nothing "
            "else on the line"
        )
    return None


def _digest_of(lines: Sequence[str]) -> str:
    """Returns a digest of lines without white space, which editors and git change."""
    digest = hashlib.sha256()
    for line in lines:
        if not _DIGEST.fullmatch(line):
            digest.update("".join(line.split()).encode())
    return digest.hexdigest()
