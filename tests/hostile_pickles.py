"""Hypothesis strategies for files of torch that were damaged, or made to run code."""

import io
import pickletools
import zipfile
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

Call = tuple[str, str, str]
"""Module, function and its argument."""

# Opcodes that call something, in every protocol of pickle.
FORMS: list[Callable[[bytes, bytes, bytes], bytes]] = [
    lambda module, name, text: b"c%s\n%s\n(V%s\ntR" % (module, name, text),
    lambda module, name, text: b"c%s\n%s\n%s\x85R" % (module, name, _unicode(text)),
    lambda module, name, text: (
        b"%s%s\x93%s\x85R" % (_unicode(module), _unicode(name), _unicode(text))
    ),
    lambda module, name, text: b"(V%s\ni%s\n%s\n" % (text, module, name),
    lambda module, name, text: b"(c%s\n%s\n%so" % (module, name, _unicode(text)),
    # Through a function of torch that may be called, and as the state of an object that may exist.
    lambda module, name, text: (
        b"ctorch._tensor\n_rebuild_from_type_v2\n(c%s\n%s\nc%s\n%s\n%s\x85NtR"
        % (module, name, module, name, _unicode(text))
    ),
    lambda module, name, text: (
        b"ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__c%s\n%s\nsb%sb"
        % (module, name, _unicode(text))
    ),
]


def _unicode(text: bytes) -> bytes:
    return b"X%s%s" % (len(text).to_bytes(4, "little"), text)


def calls(folder: str) -> list[Call]:
    """Ways to create a folder, which shows that code was run."""
    code = f"__import__('os').mkdir({folder!r})"
    return [
        ("os", "mkdir", folder),
        ("posix", "mkdir", folder),
        ("builtins", "eval", code),
        ("builtins", "exec", code),
        ("os", "system", f"mkdir '{folder}'"),
    ]


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """A file that is cut off, or of which some bytes are changed, removed, repeated or inserted."""
    # The structure is in the pickle at the beginning and in the directory at the end.
    near = st.integers(0, min(len(content), 3000))
    places = near | near.map(lambda at: len(content) - at) | st.integers(0, len(content))
    edit = st.tuples(places, st.integers(0, 4), st.binary(max_size=4))
    edits = st.lists(edit, min_size=1, max_size=8).map(lambda found: _edited(content, found))
    return edits | places.map(lambda at: content[:at])


def _edited(content: bytes, edits: Sequence[tuple[int, int, bytes]]) -> bytes:
    found = bytearray(content)
    for at, length, inserted in edits:
        found[at : at + length] = inserted
    return bytes(found)


@st.composite
def _with_call(draw: st.DrawFn, pickled: bytes, found: Sequence[Call]) -> bytes:
    """A pickle that calls something somewhere, and is otherwise as before, or is the call alone."""
    form, call = draw(st.sampled_from(FORMS)), draw(st.sampled_from(found))
    program = form(*(part.encode() for part in call))
    if draw(st.booleans()):
        return draw(st.sampled_from([b"", b"\x80\x02", b"\x80\x04"])) + program + b"."
    ends = [at for _, _, at in pickletools.genops(pickled) if at]  # 0: the number of the protocol
    at = draw(st.sampled_from(ends))
    return pickled[:at] + program + draw(st.sampled_from([b"", b"0"])) + pickled[at:]


@st.composite
def _archive(draw: st.DrawFn, content: bytes, found: Sequence[Call]) -> bytes:
    """A file as torch writes it now, with one part of the archive replaced, removed or added."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in parts if name.endswith("/data.pkl"))
    name = draw(st.sampled_from([pickled, pickled, *parts, "archive/constants.pkl", "../x"]))
    if name == pickled:
        parts[name] = draw(_with_call(parts[name], found) | damaged(parts[name]))
    elif draw(st.booleans()):
        parts.pop(name, None)
    else:
        parts[name] = draw(st.binary(max_size=50) | st.just(parts[pickled]))
    packed = io.BytesIO()
    how = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    with zipfile.ZipFile(packed, "w", how) as archive:
        for each, part in parts.items():
            archive.writestr(each, part)
    return packed.getvalue()


@st.composite
def _before_1_6(draw: st.DrawFn, content: bytes, found: Sequence[Call]) -> bytes:
    """A file as earlier versions wrote it: five pickles, one of which is replaced, and bytes."""
    stream, ends = io.BytesIO(content), [0]
    for _ in range(5):
        list(pickletools.genops(stream))
        ends.append(stream.tell())
    number = draw(st.integers(0, 4))
    pickled = content[ends[number] : ends[number + 1]]
    replaced = draw(_with_call(pickled, found) | damaged(pickled))
    return content[: ends[number]] + replaced + content[ends[number + 1] :]


def hostile_files(
    found: Sequence[Call], archive: bytes, before_1_6: bytes
) -> st.SearchStrategy[bytes]:
    """Files that are damaged, no file of torch, or made to run code.

    Args:
        found: what they may call.
        archive: a valid file.
        before_1_6: a valid file as versions before 1.6 wrote it.
    """
    forged = _archive(archive, found) | _before_1_6(before_1_6, found)
    broken = damaged(archive) | damaged(before_1_6) | forged.flatmap(damaged)
    return forged | broken | st.binary(max_size=200) | _with_call(b"N.", found)
