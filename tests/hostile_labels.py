"""Label files that nobody should write, for Hypothesis."""

import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st
from pyarrow import parquet

GOOD_NAMES = [f"train_{at}" for at in range(12)]
EVIL_NAMES = [
    "",
    ".",
    "..",
    "../outside/secret",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "\\\\host\\x",
    "train_0.jpg",
    "./train_1",
    "train-jpg/train_2",
    "a" * 300,
    "a/" * 200 + "b",
    "link",
    "folder/x",
    "\x00",
    "tr\x1bain",
    "nul\0byte",
    "ﬁ",
    "\ud800",
    "\u202etxt",
    "con",
    "-rf",
    "*",
    "$(id)",
    "`id`",
    "train_3\n",
    "'; DROP TABLE studies; --",
    "%s%n",
    "{0}",
    "~root",
]
EVIL_TAGS = [
    "",
    " ",
    "x",
    "x y",
    "x,y",
    "x;y|z",
    "|",
    ",,,",
    "\x07",
    "nan",
    "1",
    "0",
    "true",
    "é",
    "a" * 5000,
    '"',
    "'",
    "\t",
    "=1+1",
    "\ud83d",
    "😀",
    "{}",
    "[]",
    "null",
    "p_x",
    "tags",
    "image_name",
]
COLUMNS = [
    "image_name",
    "tags",
    "split",
    "group",
    "image",
    "label",
    "x",
    "y",
    "",
    " tags",
    "TAGS",
    "é",
]
VALUES = st.one_of(
    st.sampled_from(EVIL_TAGS + EVIL_NAMES + ["train", "val", "test"]),
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.lists(st.sampled_from(EVIL_TAGS) | st.integers() | st.none(), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)  # fmt: skip
NAMES = st.sampled_from(EVIL_NAMES) | st.text(max_size=8)
GOOD_TAGS = st.sampled_from(["clear", "clear road", "water", ""])
TAGS = st.sampled_from(EVIL_TAGS) | st.text(max_size=8)


def _is_evil(draw: st.DrawFn) -> bool:
    """Now and then: a file in which all is wrong shows only what is checked first."""
    return draw(st.integers(0, 29)) == 0


def _cell(text: str, quoted: bool) -> str:
    return '"' + text.replace('"', '""') + '"' if quoted else text


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    """Text that is nearly a CSV."""
    delimiter = draw(st.sampled_from([",", ",", ",", ";", "\t", "|", " "]))
    header = draw(
        st.sampled_from([["image_name", "tags"]] * 4)
        | st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=5)
    )
    quoted = draw(st.booleans())
    lines = [delimiter.join(header)]
    for at in range(draw(st.integers(0, 14))):
        name = draw(NAMES) if _is_evil(draw) else GOOD_NAMES[at % len(GOOD_NAMES)]
        cells = [name, *(draw(TAGS if _is_evil(draw) else GOOD_TAGS) for _ in header[1:])]
        if _is_evil(draw):
            cells = cells[: draw(st.integers(0, len(cells)))] + draw(st.lists(TAGS, max_size=2))
        lines.append(delimiter.join(_cell(cell, quoted) for cell in cells))
    text = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"])).join(lines)
    encoding = draw(st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-7"]))
    return text.encode(encoding, "surrogatepass")


@st.composite
def json_files(draw: st.DrawFn) -> bytes:
    """Lines that are nearly JSON objects."""
    columns = draw(
        st.sampled_from([["image_name", "tags"]] * 2)
        | st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=4)
    )
    good = {"image_name": st.nothing(), "split": st.sampled_from(["train", "val"])}
    lists = st.lists(st.sampled_from(["clear", "road", "water"]), max_size=2)
    rows: list[Any] = []
    for at in range(draw(st.integers(1, 12))):
        row = {name: draw(good.get(name, lists)) for name in columns if name != "image_name"}
        if "image_name" in columns:
            row["image_name"] = GOOD_NAMES[at]
        for name in row:
            if _is_evil(draw):
                row[name] = draw(VALUES)
        rows.append(row)
    if _is_evil(draw):
        rows.append(draw(VALUES))
    text = "\n".join(json.dumps(row, ensure_ascii=draw(st.booleans())) for row in rows)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def parquet_files(draw: st.DrawFn) -> bytes:
    """Parquet with columns of any type."""
    rows = draw(st.integers(0, 12))
    kinds: list[Callable[[int], list[Any]]] = [
        lambda at: [GOOD_NAMES[at]], lambda at: [[GOOD_NAMES[at], "x"]], lambda at: [at],
        lambda at: [at / 2], lambda at: [bool(at % 2)], lambda at: [None], lambda at: [b"\xff"],
        lambda at: [{"a": at}], lambda at: [EVIL_NAMES[at]], lambda at: ["train"],
        lambda at: [at % 2],
    ]  # fmt: skip
    names = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=4, unique=True))
    columns = {}
    for name in names:
        usual = {"image_name": kinds[0], "image": kinds[0], "tags": kinds[1], "x": kinds[-1]}
        is_usual = name in usual and draw(st.integers(0, 2)) > 0
        kind = usual[name] if is_usual else draw(st.sampled_from(kinds))
        columns[name] = [kind(at)[0] for at in range(rows)]
    buffer = io.BytesIO()
    try:
        parquet.write_table(pa.table(columns), buffer)
    except (pa.ArrowException, UnicodeEncodeError):
        return b"PAR1"
    return buffer.getvalue()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Any of these, cut, repeated or with other bytes in it."""
    content = draw(csv_files() | json_files())
    at = draw(st.integers(0, len(content)))
    change = draw(st.sampled_from(["cut", "insert", "replace", "twice"]))
    some = draw(st.binary(min_size=1, max_size=6))
    if change == "cut":
        return content[:at]
    if change == "insert":
        return content[:at] + some + content[at:]
    if change == "replace":
        return content[:at] + some + content[at + len(some) :]
    return content + content


LABEL_FILES = st.one_of(
    csv_files(), csv_files(), json_files(), parquet_files(), damaged(), st.binary(max_size=60)
)


def _rows(*rows: str, header: str = "image_name,tags") -> bytes:
    return "\n".join([header, *rows]).encode("utf-8", "surrogatepass")


def _quoted(text: str) -> str:
    return _cell(text, quoted=True)


def _among_good_rows(name: str, tags: str) -> bytes:
    good = [f"{name},{('clear', 'clear road')[at % 2]}" for at, name in enumerate(GOOD_NAMES[:-1])]
    return _rows(*good, f"{_quoted(name)},{_quoted(tags)}")


def _json_rows(**columns: Any) -> bytes:
    good = [{"image_name": name, "tags": ["clear"]} for name in GOOD_NAMES]
    return "\n".join(json.dumps(row) for row in [*good[:-1], good[-1] | columns]).encode()


def _parquet(**columns: list[Any]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"image_name": GOOD_NAMES} | columns), buffer)
    return buffer.getvalue()


_GOOD = _among_good_rows(GOOD_NAMES[-1], "water")
NASTIEST: list[bytes] = [
    _GOOD,
    *(_among_good_rows(name, "clear") for name in EVIL_NAMES),
    *(
        _rows(
            *(
                f"{name},{_quoted(tag)}"
                for name, tag in zip(GOOD_NAMES, EVIL_TAGS[at:], strict=False)
            )
        )
        for at in range(0, len(EVIL_TAGS), len(GOOD_NAMES))
    ),
    *(_GOOD.decode().encode(code) for code in ("utf-8-sig", "utf-16", "utf-16-le", "utf-7")),
    *(_GOOD.replace(b"\n", end) for end in (b"\r\n", b"\r", b"\n\n")),
    *(_GOOD.replace(b",", delimiter) for delimiter in (b";", b"\t", b"|", b" ")),
    *(_GOOD + _GOOD, _GOOD[:-1] + b"\xff", _GOOD + b"\0", _GOOD[:60], _GOOD + b'\n"'),
    *(
        b"",
        b"\n",
        b"image_name,tags",
        b"PAR1",
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"{",
        b"[]",
        b"[" * 9999,
    ),
    _rows("train_0,x", header="image_name,tags,tags"),
    _rows("train_0,1,2", "train_1,0,1", header="image_name,x,y"),
    _rows("train_0,x,train", "train_1,x,val", "train_2,x,test", header="image_name,tags,split"),
    _rows("train_0,,,,", "train_1", header="image_name,tags"),
    _rows("train_0," + "x" * 200_000),
    *(
        _json_rows(tags=value)
        for value in (None, 1, 1e308, "x y", [None], [["x"]], {"a": 1}, ["\x1b"], "\ud800")
    ),
    *(
        _json_rows(image_name=value)
        for value in (None, 1, ["train_0"], "../outside/secret", "\x1b")
    ),
    *(
        _parquet(tags=[value] * len(GOOD_NAMES))
        for value in (["x"], [None], None, b"\xff", {"a": 1}, 1.5, "x y", [["x"]])
    ),
    _parquet(tags=[["x"]] * len(GOOD_NAMES))[:-9],
]
"""Of every known kind one, tried in every run."""
