"""The launcher against an engine in memory: posts come and go, workers leave, lack things, die."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search import launcher as search_launcher
from canopy_search.search.errors import SearchFailedError, UnfitMachineError
from canopy_search.search.launcher import MOST_DEATHS, Launcher
from canopy_search.search.placement.engine import ENDED, FAILED, GONE, LEFT, LOG, Post
from tests.search.placement.made_up_engine import MadeUpEngine, MadeUpWorker, Recorded

FIRST, SECOND, THIRD = (Post(f"{name}:0", "cpu", name) for name in ("one", "two", "three"))


class _Clock:
    """Time that goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        self.now_s += 1.0
        return self.now_s


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_launcher, "time", _Clock())


@pytest.fixture
def screen() -> Recorded:
    return Recorded()


def launched(engine: MadeUpEngine, screen: Recorded, tmp_path: Path) -> Launcher:
    return Launcher(engine, tmp_path / "logs", screen)


def steps(
    *each: Callable[[MadeUpEngine], None],
) -> Callable[[MadeUpEngine], None]:
    """Returns a script that does one thing after the other, one each time the launcher waits."""
    left: Iterator[Callable[[MadeUpEngine], None]] = iter(each)

    def script(engine: MadeUpEngine) -> None:
        step = next(left, None)
        assert step is not None, "the launcher should have been over by now"
        step(engine)

    return script


def nothing(_engine: MadeUpEngine) -> None:
    pass


def all_end(engine: MadeUpEngine) -> None:
    for worker in engine.placed:
        if worker.how is None:
            worker.tell(ENDED)
            worker.end()


def test_every_post_has_a_worker_and_all_they_tell_is_shown_or_logged(
    screen: Recorded, tmp_path: Path
) -> None:
    def work(engine: MadeUpEngine) -> None:
        engine.on("one:0").tell("trial_started", 3, {}, 0, None)
        engine.on("one:0").tell("trial_started", 4, {}, 0, None, speaker=".2")
        engine.on("one:0").tell(LOG, "one line\n")
        engine.on("one:0").tell(GONE, speaker=".2")
        engine.on("two:0").tell(LOG, "another\n")
        all_end(engine)

    engine = MadeUpEngine([FIRST, SECOND], script=steps(work))
    assert launched(engine, screen, tmp_path).run()
    assert [worker.post for worker in engine.placed] == [FIRST, SECOND]
    assert all(worker.is_closed for worker in engine.placed)
    assert screen.told == [
        ("worker 1 on one", "trial_started", 3, {}, 0, None),
        ("worker 1 on one.2", "trial_started", 4, {}, 0, None),
    ]
    assert screen.gone[0] == "worker 1 on one.2"
    assert (tmp_path / "logs" / "worker-1.log").read_text() == "one line\n"
    assert (tmp_path / "logs" / "worker-2.log").read_text() == "another\n"
    assert screen.notes == []


def test_workers_follow_the_posts(
    screen: Recorded, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def two_is_lost_and_three_comes(engine: MadeUpEngine) -> None:
        engine.on("two:0").tell(LOG, "its last words\n")
        engine.there = [FIRST, THIRD]

    def two_comes_back(engine: MadeUpEngine) -> None:
        assert [worker.post for worker in engine.placed] == [FIRST, SECOND, THIRD]
        assert engine.on("two:0").is_closed
        engine.there = [FIRST, SECOND, THIRD]

    def it_speaks(engine: MadeUpEngine) -> None:
        engine.on("two:0").tell(LOG, "and first ones\n")
        all_end(engine)

    script = steps(two_is_lost_and_three_comes, two_comes_back, it_speaks)
    engine = MadeUpEngine([FIRST, SECOND], script=script)
    assert launched(engine, screen, tmp_path).run()
    assert [worker.post for worker in engine.placed] == [FIRST, SECOND, THIRD, SECOND]
    assert screen.notes == words
    log = tmp_path / "logs" / "worker-2.log"
    assert log.read_text() == "its last words\nand first ones\n"


def test_no_post_at_all_is_said_once_and_waited_through(
    screen: Recorded, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def comes(engine: MadeUpEngine) -> None:
        engine.there = [FIRST]

    engine = MadeUpEngine([], script=steps(nothing, nothing, comes, all_end))
    assert launched(engine, screen, tmp_path).run()
    assert screen.notes == words
    assert len(screen.notes) == 1


def test_who_left_is_replaced_and_has_not_died(screen: Recorded, tmp_path: Path) -> None:
    def leaves(engine: MadeUpEngine) -> None:
        engine.on("one:0").tell(LEFT, "its time is up")
        engine.on("one:0").end()

    rounds = MOST_DEATHS + 2
    engine = MadeUpEngine([FIRST], script=steps(*[leaves] * rounds, all_end))
    assert launched(engine, screen, tmp_path).run()
    assert len(engine.placed) == rounds + 1
    assert screen.notes == []


def test_what_one_machine_lacks_is_said_with_its_name_and_others_go_on(
    screen: Recorded, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def begin(worker: MadeUpWorker) -> None:
        if worker.post == SECOND:
            worker.tell(FAILED, "there are no images", False)
            worker.end()

    engine = MadeUpEngine(
        [FIRST, SECOND], begin=begin, script=steps(nothing, nothing, nothing, all_end)
    )
    assert launched(engine, screen, tmp_path).run()
    assert screen.notes == words
    assert [worker.post for worker in engine.placed] == [FIRST, SECOND]


def test_a_machine_is_tried_again_after_a_while(screen: Recorded, tmp_path: Path) -> None:
    def begin(worker: MadeUpWorker) -> None:
        if len(engine.placed) == 2:
            worker.tell(FAILED, "there are no images", False)
            worker.end()

    def a_minute(engine: MadeUpEngine) -> None:
        search_launcher.time.now_s += search_launcher.UNFIT_PAUSE_S  # type: ignore[attr-defined]

    engine = MadeUpEngine(
        [FIRST, SECOND], begin=begin, script=steps(nothing, a_minute, nothing, all_end)
    )
    assert launched(engine, screen, tmp_path).run()
    assert [worker.post for worker in engine.placed] == [FIRST, SECOND, SECOND]


def test_where_every_machine_lacks_something_the_search_ends_and_says_what(
    screen: Recorded, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def begin(worker: MadeUpWorker) -> None:
        worker.tell(FAILED, f"{worker.post.host} has no data", False)
        worker.end()

    engine = MadeUpEngine([FIRST, SECOND], begin=begin, script=steps(nothing))
    with pytest.raises(UnfitMachineError) as raised:
        launched(engine, screen, tmp_path).run()
    assert str(raised.value) == words


def test_what_keeps_every_worker_from_working_ends_the_search_at_once(
    screen: Recorded, tmp_path: Path
) -> None:
    def fails(engine: MadeUpEngine) -> None:
        engine.on("two:0").tell(FAILED, "3 trials failed one after the other", True)
        engine.on("two:0").end()

    engine = MadeUpEngine([FIRST, SECOND], script=steps(fails))
    with pytest.raises(SearchFailedError, match="3 trials failed"):
        launched(engine, screen, tmp_path).run()
    assert engine.on("one:0").was_told_to_leave
    assert all(worker.is_closed for worker in engine.placed)


def test_on_one_machine_what_one_worker_lacks_all_lack(screen: Recorded, tmp_path: Path) -> None:
    def fails(engine: MadeUpEngine) -> None:
        engine.on("two:0").tell(FAILED, "there are no images", False)
        engine.on("two:0").end()

    engine = MadeUpEngine([FIRST, SECOND], one_machine=True, script=steps(fails))
    with pytest.raises(UnfitMachineError, match="there are no images"):
        launched(engine, screen, tmp_path).run()


def test_a_worker_that_dies_is_replaced_after_a_pause_that_grows(
    screen: Recorded, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def dies(engine: MadeUpEngine) -> None:
        if engine.on("one:0").how is None:
            engine.on("one:0").end("was killed by SIGKILL")

    placed: list[float] = []

    def begin(worker: MadeUpWorker) -> None:
        if worker.post == FIRST:
            placed.append(search_launcher.time.now_s)  # type: ignore[attr-defined]

    engine = MadeUpEngine([FIRST, SECOND], begin=begin, script=steps(*[dies] * 40, all_end))
    assert launched(engine, screen, tmp_path).run()
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
    screen: Recorded, tmp_path: Path
) -> None:
    def begin(worker: MadeUpWorker) -> None:
        worker.is_waiting = worker.post == SECOND

    def one_ends(engine: MadeUpEngine) -> None:
        engine.on("one:0").tell(ENDED)
        engine.on("one:0").end()

    engine = MadeUpEngine([FIRST, SECOND], begin=begin, script=steps(one_ends))
    assert launched(engine, screen, tmp_path).run()
    assert engine.on("two:0").was_told_to_leave


@pytest.mark.parametrize("obeys", [True, False])
def test_ctrl_c_lets_all_leave_and_ends_those_that_do_not(
    screen: Recorded, tmp_path: Path, obeys: bool
) -> None:
    def ctrl_c(engine: MadeUpEngine) -> None:
        for worker in engine.placed:
            worker.obeys = obeys
        raise KeyboardInterrupt

    engine = MadeUpEngine([FIRST, SECOND], script=steps(ctrl_c, *[nothing] * 20), leave_s=10.0)
    with pytest.raises(KeyboardInterrupt):
        launched(engine, screen, tmp_path).run()
    for worker in engine.placed:
        assert worker.was_told_to_leave
        assert worker.was_killed is not obeys
        assert worker.is_closed
    if obeys:
        assert (tmp_path / "logs" / "worker-1.log").read_text() == "leaves\n"


def test_a_lost_engine_ends_the_search(screen: Recorded, tmp_path: Path) -> None:
    def lost(engine: MadeUpEngine) -> None:
        engine.is_lost = True

    engine = MadeUpEngine([FIRST], script=steps(lost))
    with pytest.raises(SearchFailedError, match="the cluster is lost"):
        launched(engine, screen, tmp_path).run()
    assert engine.on("one:0").is_closed


def test_the_time_limit_ends_the_search(screen: Recorded, tmp_path: Path) -> None:
    engine = MadeUpEngine([FIRST], script=steps(*[nothing] * 50))
    launcher = launched(engine, screen, tmp_path)
    launcher.deadline_s = 30.0
    assert not launcher.run()
    assert engine.on("one:0").was_told_to_leave
