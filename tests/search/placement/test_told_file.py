"""What a job tells is read once and in its order, however much of it is there yet."""

import multiprocessing
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from canopy_search.search.placement.told_file import ToldFile, ToldTail

FORK = multiprocessing.get_context("fork")


@given(
    items=st.lists(st.tuples(st.text(), st.lists(st.binary()).map(tuple), st.text()), max_size=5),
    cuts=st.lists(st.integers(0, 400), max_size=10),
)
def test_a_file_that_grows_in_any_pieces_is_read_whole(
    items: list[tuple[str, tuple[bytes, ...], str]], cuts: list[int]
) -> None:
    with TemporaryDirectory() as folder:
        whole, growing = Path(folder, "whole"), Path(folder, "growing")
        whole.touch()
        for item in items:
            ToldFile(whole).tell(*item)
        content, tail, read = whole.read_bytes(), ToldTail(growing), []
        for cut in [*sorted(cuts), len(content)]:
            growing.write_bytes(content[:cut])
            read += tail.read()
    assert read == items


def test_a_file_that_is_not_there_yet_says_nothing(tmp_path: Path) -> None:
    tail = ToldTail(tmp_path / "told")
    assert tail.read() == []
    ToldFile(tmp_path / "told").tell("note", ("here",))
    assert tail.read() == [("note", ("here",), "")]
    assert tail.read() == []


def test_a_page_that_a_file_system_has_not_fetched_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "told"
    ToldFile(path).tell("note", ("first",))
    begun = path.stat().st_size
    ToldFile(path).tell("note", ("x" * 100,))
    ToldFile(path).tell("note", ("last",))
    content = path.read_bytes()
    tail = ToldTail(path)
    # NFS shows zeros where it knows the length of a file and not yet what is there.
    path.write_bytes(content[:begun] + bytes(len(content) - begun))
    assert tail.read() == [("note", ("first",), "")]
    path.write_bytes(content[: begun + 50] + bytes(len(content) - begun - 50))
    assert tail.read() == []
    path.write_bytes(content)
    assert [item[1] for item in tail.read()] == [("x" * 100,), ("last",)]


def _tell_many(path: Path, speaker: str) -> None:
    for at in range(200):
        ToldFile(path).tell("note", (at, "x" * 5_000), speaker)


def test_many_writers_do_not_mix_their_records(tmp_path: Path) -> None:
    path = tmp_path / "told"
    speakers = ["a", "b", "c"]
    writers = [FORK.Process(target=_tell_many, args=(path, speaker)) for speaker in speakers]
    tail, read = ToldTail(path), []
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        read += tail.read()
    read += tail.read()
    for speaker in speakers:
        assert [item[1][0] for item in read if item[2] == speaker] == list(range(200))
