"""The launcher with a backend in memory: slots come and go, workers leave, fail or die."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import SearchFailedError, UnfitMachineError
from canopy_search.search.workers import launcher as search_launcher
from canopy_search.search.workers.backend import ENDED, FAILED, GONE, LEFT, LOG, WorkerSlot
from canopy_search.search.workers.launcher import MOST_DEATHS, Launcher
from tests.search.workers.in_memory_backend import InMemoryBackend, InMemoryWorker, RecordedScreen

FIRST, SECOND, THIRD = (WorkerSlot(f"{name}:0", "cpu", name) for name in ("one", "two", "three"))


class _Clock:
    """Clock that advances by a second whenever it is read."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        self.now_s += 1.0
        return self.now_s


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_launcher, "time", _Clock())


@pytest.fixture
def screen() -> RecordedScreen:
    return RecordedScreen()


def launched(backend: InMemoryBackend, screen: RecordedScreen, tmp_path: Path) -> Launcher:
    return Launcher(backend, tmp_path / "logs", screen)


def steps(
    *step_functions: Callable[[InMemoryBackend], None],
) -> Callable[[InMemoryBackend], None]:
    """Returns a script that runs the next step each time the launcher waits."""
    left: Iterator[Callable[[InMemoryBackend], None]] = iter(step_functions)

    def script(backend: InMemoryBackend) -> None:
        step = next(left, None)
        assert step is not None, "the launcher should have ended by now"
        step(backend)

    return script


def nothing(_backend: InMemoryBackend) -> None:
    pass


def all_end(backend: InMemoryBackend) -> None:
    for worker in backend.placed:
        if worker.ending is None:
            worker.emit(ENDED)
            worker.end()


def test_every_post_has_a_worker_and_all_they_tell_is_shown_or_logged(
    screen: RecordedScreen, tmp_path: Path
) -> None:
    def work(backend: InMemoryBackend) -> None:
        backend.on("one:0").emit("trial_started", 3, {}, 0, None)
        backend.on("one:0").emit("trial_started", 4, {}, 0, None, worker_id=".2")
        backend.on("one:0").emit(LOG, "one line\n")
        backend.on("one:0").emit(GONE, worker_id=".2")
        backend.on("two:0").emit(LOG, "another\n")
        all_end(backend)

    backend = InMemoryBackend([FIRST, SECOND], script=steps(work))
    assert launched(backend, screen, tmp_path).run()
    assert [worker.slot for worker in backend.placed] == [FIRST, SECOND]
    assert all(worker.is_closed for worker in backend.placed)
    assert screen.events == [
        ("worker 1 on one", "trial_started", 3, {}, 0, None),
        ("worker 1 on one.2", "trial_started", 4, {}, 0, None),
    ]
    assert screen.gone[0] == "worker 1 on one.2"
    assert (tmp_path / "logs" / "worker-1.log").read_text() == "one line\n"
    assert (tmp_path / "logs" / "worker-2.log").read_text() == "another\n"
    assert screen.notes == []


def test_workers_follow_the_posts(
    screen: RecordedScreen, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def two_is_lost_and_three_comes(backend: InMemoryBackend) -> None:
        backend.on("two:0").emit(LOG, "its last words\n")
        backend.available = [FIRST, THIRD]

    def two_comes_back(backend: InMemoryBackend) -> None:
        assert [worker.slot for worker in backend.placed] == [FIRST, SECOND, THIRD]
        assert backend.on("two:0").is_closed
        backend.available = [FIRST, SECOND, THIRD]

    def it_speaks(backend: InMemoryBackend) -> None:
        backend.on("two:0").emit(LOG, "and first ones\n")
        all_end(backend)

    script = steps(two_is_lost_and_three_comes, two_comes_back, it_speaks)
    backend = InMemoryBackend([FIRST, SECOND], script=script)
    assert launched(backend, screen, tmp_path).run()
    assert [worker.slot for worker in backend.placed] == [FIRST, SECOND, THIRD, SECOND]
    assert screen.notes == words
    log = tmp_path / "logs" / "worker-2.log"
    assert log.read_text() == "its last words\nand first ones\n"


def test_no_post_at_all_is_said_once_and_waited_through(
    screen: RecordedScreen, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def comes(backend: InMemoryBackend) -> None:
        backend.available = [FIRST]

    backend = InMemoryBackend([], script=steps(nothing, nothing, comes, all_end))
    assert launched(backend, screen, tmp_path).run()
    assert screen.notes == words
    assert len(screen.notes) == 1


def test_who_left_is_replaced_and_has_not_died(screen: RecordedScreen, tmp_path: Path) -> None:
    def leaves(backend: InMemoryBackend) -> None:
        backend.on("one:0").emit(LEFT, "its time is up")
        backend.on("one:0").end()

    rounds = MOST_DEATHS + 2
    backend = InMemoryBackend([FIRST], script=steps(*[leaves] * rounds, all_end))
    assert launched(backend, screen, tmp_path).run()
    assert len(backend.placed) == rounds + 1
    assert screen.notes == []


def test_what_one_machine_lacks_is_said_with_its_name_and_others_go_on(
    screen: RecordedScreen, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def on_place(worker: InMemoryWorker) -> None:
        if worker.slot == SECOND:
            worker.emit(FAILED, "there are no images", False)
            worker.end()

    backend = InMemoryBackend(
        [FIRST, SECOND], on_place=on_place, script=steps(nothing, nothing, nothing, all_end)
    )
    assert launched(backend, screen, tmp_path).run()
    assert screen.notes == words
    assert [worker.slot for worker in backend.placed] == [FIRST, SECOND]


def test_a_machine_is_tried_again_after_a_while(screen: RecordedScreen, tmp_path: Path) -> None:
    def on_place(worker: InMemoryWorker) -> None:
        if len(backend.placed) == 2:
            worker.emit(FAILED, "there are no images", False)
            worker.end()

    def a_minute(backend: InMemoryBackend) -> None:
        search_launcher.time.now_s += search_launcher.UNFIT_PAUSE_S  # type: ignore[attr-defined]

    backend = InMemoryBackend(
        [FIRST, SECOND], on_place=on_place, script=steps(nothing, a_minute, nothing, all_end)
    )
    assert launched(backend, screen, tmp_path).run()
    assert [worker.slot for worker in backend.placed] == [FIRST, SECOND, SECOND]


def test_where_every_machine_lacks_something_the_search_ends_and_says_what(
    screen: RecordedScreen, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def on_place(worker: InMemoryWorker) -> None:
        worker.emit(FAILED, f"{worker.slot.host} has no data", False)
        worker.end()

    backend = InMemoryBackend([FIRST, SECOND], on_place=on_place, script=steps(nothing))
    with pytest.raises(UnfitMachineError) as raised:
        launched(backend, screen, tmp_path).run()
    assert str(raised.value) == words


def test_what_keeps_every_worker_from_working_ends_the_search_at_once(
    screen: RecordedScreen, tmp_path: Path
) -> None:
    def fails(backend: InMemoryBackend) -> None:
        backend.on("two:0").emit(FAILED, "3 trials failed in a row", True)
        backend.on("two:0").end()

    backend = InMemoryBackend([FIRST, SECOND], script=steps(fails))
    with pytest.raises(SearchFailedError, match="3 trials failed"):
        launched(backend, screen, tmp_path).run()
    assert backend.on("one:0").was_asked_to_leave
    assert all(worker.is_closed for worker in backend.placed)


def test_on_one_machine_what_one_worker_lacks_all_lack(
    screen: RecordedScreen, tmp_path: Path
) -> None:
    def fails(backend: InMemoryBackend) -> None:
        backend.on("two:0").emit(FAILED, "there are no images", False)
        backend.on("two:0").end()

    backend = InMemoryBackend([FIRST, SECOND], one_machine=True, script=steps(fails))
    with pytest.raises(UnfitMachineError, match="there are no images"):
        launched(backend, screen, tmp_path).run()


def test_a_worker_that_dies_is_replaced_after_a_pause_that_grows(
    screen: RecordedScreen, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def dies(backend: InMemoryBackend) -> None:
        if backend.on("one:0").ending is None:
            backend.on("one:0").end("was killed by SIGKILL")

    placed: list[float] = []

    def on_place(worker: InMemoryWorker) -> None:
        if worker.slot == FIRST:
            placed.append(search_launcher.time.now_s)  # type: ignore[attr-defined]

    backend = InMemoryBackend(
        [FIRST, SECOND], on_place=on_place, script=steps(*[dies] * 40, all_end)
    )
    assert launched(backend, screen, tmp_path).run()
    *deaths, last = screen.notes
    assert [re.findall(r"\b\d+ s\b", note) for note in deaths] == [
        ["1 s"],
        ["2 s"],
        ["4 s"],
        ["8 s"],
    ]
    assert len(placed) == MOST_DEATHS
    assert f"{MOST_DEATHS} times" in last
    assert screen.notes == words


def test_a_worker_that_is_only_asked_for_is_not_waited_for(
    screen: RecordedScreen, tmp_path: Path
) -> None:
    def on_place(worker: InMemoryWorker) -> None:
        worker.is_waiting = worker.slot == SECOND

    def one_ends(backend: InMemoryBackend) -> None:
        backend.on("one:0").emit(ENDED)
        backend.on("one:0").end()

    backend = InMemoryBackend([FIRST, SECOND], on_place=on_place, script=steps(one_ends))
    assert launched(backend, screen, tmp_path).run()
    assert backend.on("two:0").was_asked_to_leave


@pytest.mark.parametrize("obeys", [True, False])
def test_ctrl_c_lets_all_leave_and_ends_those_that_do_not(
    screen: RecordedScreen, tmp_path: Path, obeys: bool
) -> None:
    def ctrl_c(backend: InMemoryBackend) -> None:
        for worker in backend.placed:
            worker.obeys = obeys
        raise KeyboardInterrupt

    backend = InMemoryBackend([FIRST, SECOND], script=steps(ctrl_c, *[nothing] * 20), leave_s=10.0)
    with pytest.raises(KeyboardInterrupt):
        launched(backend, screen, tmp_path).run()
    for worker in backend.placed:
        assert worker.was_asked_to_leave
        assert worker.was_killed is not obeys
        assert worker.is_closed
    if obeys:
        assert (tmp_path / "logs" / "worker-1.log").read_text() == "leaves\n"


def test_a_lost_engine_ends_the_search(screen: RecordedScreen, tmp_path: Path) -> None:
    def lost(backend: InMemoryBackend) -> None:
        backend.is_lost = True

    backend = InMemoryBackend([FIRST], script=steps(lost))
    with pytest.raises(SearchFailedError, match="the cluster is lost"):
        launched(backend, screen, tmp_path).run()
    assert backend.on("one:0").is_closed


def test_the_time_limit_ends_the_search(screen: RecordedScreen, tmp_path: Path) -> None:
    backend = InMemoryBackend([FIRST], script=steps(*[nothing] * 50))
    launcher = launched(backend, screen, tmp_path)
    launcher.deadline_s = 30.0
    assert not launcher.run()
    assert backend.on("one:0").was_asked_to_leave
