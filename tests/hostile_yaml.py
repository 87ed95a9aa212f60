"""Hypothesis strategies for configurations that nobody should write: bytes of a ``canopy.yaml``."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

# Right in every section; the label file is not there, so that no example ever trains.
VALID: dict[str, Any] = {
    "data": {
        "labels": "absent.csv",
        "images": "pictures",
        "image_px": "32",
        "columns": {"image": "image_name", "tags": "tags", "separator": "auto"},
        "split": {"validation": "0.15", "test": "0.15", "seed": "0", "column": "auto"},
        "augment": ["hflip", "vflip"],
        "allow_missing": "false",
        "follow_links": "false",
    },
    "training": {
        "epochs": "1",
        "batch_size": "8",
        "backbone": "tinycnn_8",
        "loss": "bce",
        "focal": {"alpha": "0.25", "gamma": "2.0"},
        "gamma": "1.0",
        "schedule": {"name": "exponential", "warmup_epochs": "0.5"},
        "freeze_epochs": "0",
        "ema": "null",
        "optimizer": {"name": "adam", "lr": "1e-3", "weight_decay": "0.0"},
        "clip_norm": "null",
        "device": "cpu",
        "threads": "auto",
        "seed": "0",
        "deterministic": "false",
    },
    "search": {
        "study": "hostile",
        "trials": "3",
        "sampler": {"name": "tpe", "n_startup_trials": "1"},
        "pruner": {"name": "median", "n_warmup_steps": "1"},
        "space": {
            "loss": ["bce", "focal"],
            "gamma": {"low": "0.8", "high": "1.0", "step": "0.01"},
            "optimizer.lr": {"low": "1e-4", "high": "1e-2", "log": "true"},
            "batch_size": {"low": "8", "high": "64", "step": "8"},
        },
        "enqueue": [{"loss": "bce", "gamma": "0.9"}],
    },
    "provenance": {"val_ap": "0.5"},
}

_KEYS = sorted(
    {"momentum", "group", "demo_", "weights", "precision", "asymmetric", "max_failures", "workers"}
    | {"low", "high", "step", "log", "name", "n_ei_candidates", "popsize", "sigma0", "gamma"}
    | {"schedule.name", "final_factor", "decay_epochs", "layer_decay", "head_bias"}
    | {"min_resource", "reduction_factor", "multivariate", "stages", "clearml", "optimizer.name"}
    | {"epochs", "seed", "labels", "<<", "", "?", "a.b", "RangeSettings", "int", "list[int]"}
)

# As they stand in the file.
_SPECIAL = [
    *("null", "~", "", "true", "False", "no", "yes", "on", "None", "nan", "NaN", "inf"),
    *("0", "-1", "1", "2", "3", "0.5", "1.5", "1e-3", "010", "0x10", "0o17", "1_000", "-_", "+"),
    *(".inf", "-.inf", ".nan", "1e400", "-1e400", "5e-324", "1e308", "1e-300", "1e300", "-0.0"),
    *("9007199254740993", "9223372036854775807", "-9223372036854775808", "9" * 30, "9" * 5000),
    *("2024-01-01", "2024-13-45", "2001-12-14t21:59:43.10-05:00", "1:30", "12:30:45", "1,5", "15%"),
    *("tpe", "random", "grid", "cmaes", "median", "none", "hyperband", "successive_halving"),
    *("adam", "sgd", "focal", "resnet18", "imagenet_", "cuda:99", "mps", "cpu", "bf16", "auto"),
    *("[]", "{}", "[1]", "[[1]]", "{a: 1}", "{name: grid}", "{name: cmaes}", "{name: hyperband}"),
    *("{low: 0, high: 1}", "{low: 1, high: 9007199254740992}", "{low: 1, high: 1, step: 1e-300}"),
    *("{low: 1e-300, high: 1, log: true}", "{low: -1e15, high: 1e15, step: 1e10}", "[1, 2, 2.0]"),
    *("[a, true, 1, 0.5, null]", "{low: 0, high: 1, step: 0.1, log: true}", "{low: 2, high: 1}"),
    *("&a x", "*a", "&a [*a]", "{<<: *a}", "!!python/object/apply:os.system [touch hacked]"),
    *("!!binary eA==", "!!int x", "!!bool x", "!!set {a}", "!!str 5", "!x y", "=", "<<", "@", "`"),
    *(
        '"\\x1b[31m"',
        '"\\ud800"',
        '"\\0"',
        '"a\\nb"',
        '"\\u202e"',
        "'it''s'",
        "|\n  x",
        "- x",
        "? x",
    ),
    *(
        "/",
        ".",
        "..",
        "../x",
        "~/x",
        "''",
        "' '",
        "é",
        "日本",
        "😀",
        "x" * 300,
        "x" * 2000,
        "{{ x }}",
    ),
]
_CHUNKS = [
    b"\t",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xfe\xff",
    b"\x1b",
    b"---\n",
    b"...\n",
    b"%YAML 1.1\n",
]
_CHUNKS += [
    b": ",
    b"- ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"'",
    b'"',
    b"#",
    b"&a ",
    b"*a ",
    b"!!",
    b"|",
    b">",
]
_CHUNKS += [
    b"? ",
    b"[" * 500,
    b"  ",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"<html>",
    b"%",
]

special_values = st.one_of(
    st.sampled_from(_SPECIAL),
    st.text(max_size=8).map(json.dumps),
    st.integers().map(str),
    st.floats().map(str),
    st.floats(0, 1).map(str),
)


@st.composite
def hostile_documents(draw: st.DrawFn) -> str:
    """A valid document with one to four mutations: keys and values deleted, misspelt, replaced."""
    # Parsing is what an example costs, so it has some of the sections.
    sections = draw(st.sets(st.sampled_from(("training", "search", "provenance")), max_size=2))
    document = {key: deepcopy(VALID[key]) for key in ("data", *sorted(sections))}
    extra = ""
    for _ in range(draw(st.integers(1, 4))):
        place: Any = document
        while True:
            steps = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not steps:
                break
            step = draw(st.sampled_from(steps))
            if isinstance(place[step], dict | list) and draw(st.integers(0, 5)):
                place = place[step]
                continue
            extra += _mutate(draw, place, step)
            break
    return _block(document) + extra


def _mutate(draw: st.DrawFn, place: Any, step: Any) -> str:
    """Changes `place`; returns text to put at the end of the document."""
    what = draw(st.sampled_from(("replace", "replace", "delete", "misspell", "add", "again")))
    if what == "delete":
        del place[step]
    elif what == "misspell" and isinstance(place, dict):
        index = draw(st.integers(0, len(step)))
        letter = draw(st.sampled_from(("", "e", "_", ".", " ", "-", "é", "'", ":", "#")))
        place[step[:index] + letter + step[index + 1 :]] = place.pop(step)
    elif what == "add" and isinstance(place, dict):
        place[draw(st.sampled_from(_KEYS))] = draw(special_values)
    elif what == "again":
        return f"{draw(st.sampled_from(sorted(VALID)))}: {draw(special_values)}\n"
    else:
        place[step] = draw(special_values)
    return ""


def _block(value: Any, indent: int = 0) -> str:
    """Returns the document as YAML, its leaves as they are."""
    if isinstance(value, str):
        return f" {value}\n"
    margin = " " * indent
    if isinstance(value, dict):
        lines = [f"{margin}{key}:{_nested(inner, indent)}" for key, inner in value.items()]
    else:
        lines = [f"{margin}-{_nested(inner, indent)}" for inner in value]
    return "".join(lines)


def _nested(inner: Any, indent: int) -> str:
    return _block(inner) if isinstance(inner, str) else "\n" + _block(inner, indent + 2)


@st.composite
def hostile_bytes(draw: st.DrawFn) -> bytes:
    """A document, right or hostile, whose bytes are cut, doubled, overwritten or shuffled."""
    text = draw(st.one_of(st.just(_block(VALID)), hostile_documents())).encode(errors="replace")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 40))
        what = draw(st.sampled_from(("cut", "remove", "insert", "insert", "double", "binary")))
        if what == "cut":
            text = text[:at]
        elif what == "remove":
            text = text[:at] + text[at + length :]
        elif what == "double":
            text = text[:at] + text[at : at + length] * 2 + text[at + length :]
        elif what == "binary":
            text = text[:at] + draw(st.binary(max_size=4)) + text[at:]
        else:
            text = text[:at] + draw(st.sampled_from(_CHUNKS)) + text[at:]
    return text


def _placed(at: int, value: str) -> str:
    """Puts a value in place of one of the right document's leaves, each time of the next one."""
    document = deepcopy(VALID)
    leaves = list(_leaves(document))
    place, step = leaves[at * 7 % len(leaves)]  # so that neighbours go to several sections
    place[step] = value
    return _block(document)


def _leaves(place: Any) -> Iterator[tuple[Any, Any]]:
    for step, inner in list(place.items() if isinstance(place, dict) else enumerate(place)):
        if isinstance(inner, str):
            yield place, step
        else:
            yield from _leaves(inner)


NASTIEST_DOCUMENTS = [
    _block(VALID),
    *(_placed(at, value) for at, value in enumerate(_SPECIAL)),
    *(_block(VALID) + f"{section}: 1\n" for section in VALID),
    *(_block({key: value for key, value in VALID.items() if key != gone}) for gone in VALID),
]
"""Every special value once, and every section twice and not at all."""

_RIGHT = _block(VALID).encode()
NASTIEST_BYTES = [
    *(_RIGHT[:200] + chunk + _RIGHT[200:] for chunk in _CHUNKS),
    *(chunk + _RIGHT for chunk in _CHUNKS[:10]),
    *(_RIGHT.decode().encode(code) for code in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32")),
    *(b"", _RIGHT[:-40], _RIGHT * 2, b"#" * 300_000),
]
"""Every known chunk within the right document, and some before it."""
