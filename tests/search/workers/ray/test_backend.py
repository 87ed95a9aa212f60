"""The Ray backend as the launcher uses it; the test holds the driver's end of the pipe."""

from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.errors import PlacementError, SearchFailedError
from canopy_search.search.events import Ending, WorkerEnded
from canopy_search.search.study.plan import plan_search
from canopy_search.search.workers.backend import JobEvent, WorkerSlot
from canopy_search.search.workers.ray import backend as on_ray
from canopy_search.search.workers.ray.backend import FULL_S, SILENT_S, DriverProcess, RayBackend
from canopy_search.search.workers.ray.driver import Ended, Kill, Leave, Nodes, Started, Submit
from canopy_search.search.workers.ray.slots import Node, RaySlots
from canopy_search.search.workers.remote_search import RemoteSearch
from tests.planned import requested

NEAR = Node("id-near", "127.0.0.1", "near", 1, 0)
FAR = Node("id-far", "192.0.2.77", "far", 1, 0)
SERVER = "postgresql://user:secret@db.example/canopy"


class _Clock:
    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(on_ray, "time", clock)
    return clock


class _Connected:
    """A backend, the other end of its pipe, and its notes."""

    def __init__(self, nodes: list[Node], url: str | None, home: Path) -> None:
        launcher_end, self.ray = Pipe()
        self.notes: list[str] = []
        driver = DriverProcess(
            cast("Any", None), cast("Connection[Any, Any]", launcher_end), home / "ray.log", "h:1"
        )
        config = CanopyConfig.model_validate({"data": {"demo": "digits"}})
        plan = plan_search(requested(config, home, "demo", url), 4)
        self._driver = driver
        search = RemoteSearch(plan, self.notes.append)
        self.backend = RayBackend(driver, search, RaySlots("cpu", 1), nodes)

    def commands(self) -> list[tuple[type, int]]:
        found = []
        while self.ray.poll():
            message = self.ray.recv()
            found.append((type(message), message.number))
        return found

    def close(self) -> None:
        self._driver.connection.close()
        self.ray.close()


@pytest.fixture
def connected(tmp_path: Path) -> Iterator[Any]:
    made: list[_Connected] = []

    def make(nodes: list[Node], url: str | None = None) -> _Connected:
        made.append(_Connected(nodes, url, tmp_path))
        return made[-1]

    yield make
    for item in made:
        item.close()


def test_a_database_of_this_machine_and_a_node_of_another_one_do_not_go_together(
    connected: Any, words: SnapshotAssertion
) -> None:
    connected([NEAR]).backend.check_database()
    connected([NEAR, FAR], SERVER).backend.check_database()
    with pytest.raises(PlacementError) as raised:
        connected([NEAR, FAR]).backend.check_database()
    assert str(raised.value) == words(name="embedded")
    local = "postgresql://user:secret@localhost/canopy"
    with pytest.raises(PlacementError) as raised:
        connected([NEAR, FAR], local).backend.check_database()
    assert str(raised.value) == words(name="of this machine")
    assert "secret" not in str(raised.value)


def test_a_node_that_comes_later_and_cannot_reach_the_database_is_unfit(
    connected: Any, tmp_path: Path, words: SnapshotAssertion
) -> None:
    with_ray = connected([NEAR])
    with_ray.ray.send(Nodes([NEAR, FAR]))
    slots = with_ray.backend.slots()
    assert [slot.host for slot in slots] == ["near", "far"]
    job = with_ray.backend.submit(slots[1], tmp_path / "log")
    [(of, event)] = with_ray.backend.events(10.0)
    assert of is job
    assert event == WorkerEnded(Ending.UNFIT, words)
    assert with_ray.commands() == []


def test_a_worker_is_followed_until_it_ends(connected: Any, tmp_path: Path) -> None:
    with_ray = connected([NEAR])
    [slot] = with_ray.backend.slots()
    assert slot == WorkerSlot("id-near:0", "cpu", "near")
    job = with_ray.backend.submit(slot, tmp_path / "log")
    assert job.is_waiting
    message = with_ray.ray.recv()
    assert isinstance(message, Submit)
    assert message.command.placed["worker_id"] == job.worker_ids[0]
    with_ray.ray.send(Started(1))
    assert with_ray.backend.events(0.1) == []
    assert not job.is_waiting
    job.cancel()
    ended = WorkerEnded(Ending.LEFT, "it was asked to leave")
    with_ray.ray.send(Ended(1, ended))
    assert with_ray.backend.events(10.0) == [JobEvent(job, ended)]
    job.kill()
    assert with_ray.commands() == [(Leave, 1), (Kill, 1)]


def test_who_is_still_waited_for_need_not_leave(connected: Any, tmp_path: Path) -> None:
    with_ray = connected([NEAR])
    with_ray.backend.submit(with_ray.backend.slots()[0], tmp_path / "log").cancel()
    assert with_ray.commands() == [(Submit, 1), (Kill, 1)]


def test_the_end_of_a_worker_whose_node_is_lost_is_no_death(connected: Any, tmp_path: Path) -> None:
    with_ray = connected([NEAR])
    with_ray.backend.submit(with_ray.backend.slots()[0], tmp_path / "log")
    with_ray.ray.send(Nodes([]))
    with_ray.ray.send(Ended(1, WorkerEnded(Ending.DIED, "was lost with its node")))
    assert with_ray.backend.slots() == []
    assert with_ray.backend.events(0.1) == []


def test_a_cluster_that_is_silent_is_said_once_and_one_that_is_lost_ends_the_search(
    connected: Any, clock: _Clock, words: SnapshotAssertion
) -> None:
    with_ray = connected([NEAR])
    for seconds in (SILENT_S, SILENT_S, SILENT_S):
        clock.sleep(seconds + 1)
        with_ray.backend.slots()
    assert len(with_ray.notes) == 1
    assert with_ray.notes[0] == words
    with_ray.ray.send(Nodes([NEAR]))
    with_ray.backend.slots()
    clock.sleep(SILENT_S + 1)
    with_ray.backend.slots()
    assert len(with_ray.notes) == 2
    with_ray.ray.close()
    with pytest.raises(SearchFailedError, match="the Ray cluster is lost"):
        with_ray.backend.slots()


def test_a_node_without_room_is_said_once(
    connected: Any, clock: _Clock, tmp_path: Path, words: SnapshotAssertion
) -> None:
    with_ray = connected([NEAR])
    with_ray.backend.submit(with_ray.backend.slots()[0], tmp_path / "log")
    for _ in range(3):
        with_ray.ray.send(Nodes([NEAR]))
        clock.sleep(FULL_S / 2 + 1)
        with_ray.ray.send(Nodes([NEAR]))
        with_ray.backend.slots()
    assert [note for note in with_ray.notes if "near" in note] == words
