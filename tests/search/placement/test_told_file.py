"""What a job tells reaches the starter whole and in its order, also while it is written."""

from pathlib import Path

import pytest

from search.placement.told_file import ToldFile, ToldTail

ITEMS = [("began", ("node7",), ""), ("note", ("é\n",), ".2"), ("log", ("x" * 10_000,), "")]


def test_records_are_read_once_and_in_their_order(tmp_path: Path) -> None:
    file, tail = ToldFile(tmp_path / "told"), ToldTail(tmp_path / "told")
    assert tail.read() == []
    file.tell(*ITEMS[0])
    assert tail.read() == ITEMS[:1]
    for item in ITEMS[1:]:
        file.tell(*item)
    assert tail.read() == ITEMS[1:]
    assert tail.read() == []


def test_a_file_that_is_cut_anywhere_gives_what_is_whole_and_the_rest_later(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    ends = []
    for item in ITEMS[:2]:
        ToldFile(whole).tell(*item)
        ends.append(whole.stat().st_size)
    data = whole.read_bytes()
    for size in range(len(data)):
        cut.write_bytes(data[:size])
        tail = ToldTail(cut)
        complete = sum(end <= size for end in ends)
        assert tail.read() == ITEMS[:complete]
        cut.write_bytes(data)
        assert tail.read() == ITEMS[complete:2]


@pytest.mark.parametrize("start", [0, 8])
def test_what_a_file_system_shows_as_zeros_is_read_when_it_is_there(
    tmp_path: Path, start: int
) -> None:
    path = tmp_path / "told"
    for item in ITEMS[:2]:
        ToldFile(path).tell(*item)
    data = path.read_bytes()
    path.write_bytes(data[:start] + bytes(20) + data[start + 20 :])
    tail = ToldTail(path)
    assert tail.read() == []
    path.write_bytes(data)
    assert tail.read() == ITEMS[:2]
