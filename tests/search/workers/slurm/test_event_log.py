"""Events of a job are read once and in order, also while the file is incomplete."""

import multiprocessing
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from canopy_search.search.workers.slurm.event_log import EventLog, EventLogTail

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
            EventLog(whole).emit(*item)
        content, tail, read = whole.read_bytes(), EventLogTail(growing), []
        for cut in [*sorted(cuts), len(content)]:
            growing.write_bytes(content[:cut])
            read += tail.read()
    assert read == items


def test_a_file_that_is_not_there_yet_says_nothing(tmp_path: Path) -> None:
    tail = EventLogTail(tmp_path / "told")
    assert tail.read() == []
    EventLog(tmp_path / "told").emit("note", ("here",))
    assert tail.read() == [("note", ("here",), "")]
    assert tail.read() == []


def test_a_page_that_a_file_system_has_not_fetched_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "told"
    EventLog(path).emit("note", ("first",))
    first_bytes = path.stat().st_size
    EventLog(path).emit("note", ("x" * 100,))
    EventLog(path).emit("note", ("last",))
    content = path.read_bytes()
    tail = EventLogTail(path)
    # NFS shows zeros while it knows the length of a file but not its content.
    path.write_bytes(content[:first_bytes] + bytes(len(content) - first_bytes))
    assert tail.read() == [("note", ("first",), "")]
    path.write_bytes(content[: first_bytes + 50] + bytes(len(content) - first_bytes - 50))
    assert tail.read() == []
    path.write_bytes(content)
    assert [item[1] for item in tail.read()] == [("x" * 100,), ("last",)]


def _emit_many(path: Path, worker_id: str) -> None:
    for number in range(200):
        EventLog(path).emit("note", (number, "x" * 5_000), worker_id)


def test_many_writers_do_not_mix_their_records(tmp_path: Path) -> None:
    path = tmp_path / "told"
    worker_ids = ["a", "b", "c"]
    writers = [FORK.Process(target=_emit_many, args=(path, worker_id)) for worker_id in worker_ids]
    tail, read = EventLogTail(path), []
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        read += tail.read()
    read += tail.read()
    for worker_id in worker_ids:
        assert [item[1][0] for item in read if item[2] == worker_id] == list(range(200))
