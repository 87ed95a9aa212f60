"""The launcher with a backend in memory: slots come and go, workers leave, fail or die."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import SearchFailedError, UnfitMachineError
from canopy_search.search.events import (
    Ending,
    EpochDone,
    Event,
    TrialEnded,
    TrialStarted,
    WorkerEnded,
)
from canopy_search.search.workers import launcher as search_launcher
from canopy_search.search.workers.backend import WorkerSlot
from canopy_search.search.workers.launcher import MOST_DEATHS, ROUNDS_WITHOUT_EPOCH, Launcher
from tests.search.workers.in_memory_backend import InMemoryBackend, InMemoryJob, RecordedScreen

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


def later_step(_backend: InMemoryBackend) -> None:
    search_launcher.time.now_s += search_launcher.PARKED_S


def ended(number: int, state: TrialState) -> TrialEnded:
    return TrialEnded(number, {}, state, 0.5, 1, 1, 1.0, 1, 0.5)


def all_end(backend: InMemoryBackend) -> None:
    for job in backend.jobs:
        if not job.is_over:
            job.end(Ending.DONE)


class Watched:
    """Stands for the database: returns each of these lists of events once."""

    def __init__(self, *looks: list[tuple[int | None, Event]]) -> None:
        self.looks = list(looks)

    def poll(self) -> list[tuple[int | None, Event]]:
        return self.looks.pop(0) if self.looks else []


STARTED = TrialStarted(3, {})


def test_every_slot_has_a_job_and_all_its_events_are_shown(
    screen: RecordedScreen, tmp_path: Path
) -> None:
    def work(backend: InMemoryBackend) -> None:
        backend.on("one:0").emit(STARTED)
        all_end(backend)

    backend = InMemoryBackend([FIRST, SECOND], script=steps(work))
    assert launched(backend, screen, tmp_path).run()
    assert [job.slot for job in backend.jobs] == [FIRST, SECOND]
    assert screen.events[0] == ("worker 1 on one", STARTED)
    assert set(screen.gone) >= {"worker 1 on one", "worker 2 on two"}
    assert screen.notes == []


def test_what_the_database_says_has_the_name_of_the_job_and_is_shown_before_its_end(
    screen: RecordedScreen, tmp_path: Path
) -> None:
    backend = InMemoryBackend([FIRST, SECOND], script=steps(nothing, nothing, all_end))
    launcher = launched(backend, screen, tmp_path)
    second, unknown = TrialStarted(4, {}), TrialStarted(5, {})
    epoch = EpochDone(1, 2, 0.5)
    looks = [[(0, STARTED), (101, second)], [(7, unknown), (None, STARTED)], [(100, epoch)]]
    launcher.watcher = Watched(*looks)
    assert launcher.run()
    shown = [each for each in screen.events if not isinstance(each[1], WorkerEnded)]
    assert shown == [
        ("worker 1 on one", STARTED),
        ("worker 2 on two.2", second),
        ("", unknown),
        ("", STARTED),
        ("worker 2 on two", epoch),
    ]
    assert screen.gone[-4:] == [
        "worker 1 on one",
        "worker 1 on one.2",
        "worker 2 on two",
        "worker 2 on two.2",
    ]


def test_workers_follow_the_slots(
    screen: RecordedScreen, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def two_is_lost_and_three_comes(backend: InMemoryBackend) -> None:
        backend.available = [FIRST, THIRD]

    def two_comes_back(backend: InMemoryBackend) -> None:
        assert [job.slot for job in backend.jobs] == [FIRST, SECOND, THIRD]
        backend.on("two:0").end(Ending.DIED, "was lost")  # its slot is, so nobody minds
        backend.available = [FIRST, SECOND, THIRD]

    def it_speaks(backend: InMemoryBackend) -> None:
        backend.on("two:0").emit(STARTED)
        all_end(backend)

    script = steps(two_is_lost_and_three_comes, two_comes_back, it_speaks)
    backend = InMemoryBackend([FIRST, SECOND], script=script)
    assert launched(backend, screen, tmp_path).run()
    assert [job.slot for job in backend.jobs] == [FIRST, SECOND, THIRD, SECOND]
    assert screen.notes == words
    assert ("worker 2 on two", STARTED) in screen.events


def test_a_job_whose_machine_is_known_later_has_another_name_from_then_on(
    screen: RecordedScreen, tmp_path: Path
) -> None:
    def it_starts(backend: InMemoryBackend) -> None:
        backend.on("one:0").emit(STARTED)
        backend.available = [FIRST]

    backend = InMemoryBackend([WorkerSlot("one:0", "cpu")], script=steps(it_starts, all_end))
    assert launched(backend, screen, tmp_path).run()
    assert ("worker 1", STARTED) in screen.events
    assert screen.gone[0] == "worker 1"
    assert screen.gone[-2:] == ["worker 1 on one", "worker 1 on one.2"]


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
        backend.on("one:0").emit(EpochDone(1, 4, 0.5))
        backend.on("one:0").end(Ending.LEFT, "its time is up")

    rounds = MOST_DEATHS + 2
    backend = InMemoryBackend([FIRST], script=steps(*[leaves] * rounds, all_end))
    assert launched(backend, screen, tmp_path).run()
    assert len(backend.jobs) == rounds + 1
    assert screen.notes == []


def test_jobs_too_short_for_an_epoch_end_the_search(
    screen: RecordedScreen, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def leave(backend: InMemoryBackend) -> None:
        for key in ("one:0", "two:0"):
            backend.on(key).end(Ending.LEFT, "its time is up")

    rounds = steps(*[leave] * ROUNDS_WITHOUT_EPOCH)
    backend = InMemoryBackend([FIRST, SECOND], script=rounds)
    with pytest.raises(SearchFailedError) as raised:
        launched(backend, screen, tmp_path).run()
    assert str(raised.value) == words
    assert len(backend.jobs) == 2 * ROUNDS_WITHOUT_EPOCH


def test_what_one_machine_lacks_is_said_with_its_name_and_others_go_on(
    screen: RecordedScreen, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def on_submit(job: InMemoryJob) -> None:
        if job.slot == SECOND:
            job.end(Ending.UNFIT, "there are no images")

    backend = InMemoryBackend(
        [FIRST, SECOND], on_submit=on_submit, script=steps(nothing, nothing, nothing, all_end)
    )
    assert launched(backend, screen, tmp_path).run()
    assert screen.notes == words
    assert [job.slot for job in backend.jobs] == [FIRST, SECOND]


def test_a_machine_is_tried_again_after_a_while(screen: RecordedScreen, tmp_path: Path) -> None:
    def on_submit(job: InMemoryJob) -> None:
        if len(backend.jobs) == 2:
            job.end(Ending.UNFIT, "there are no images")

    def a_minute(backend: InMemoryBackend) -> None:
        search_launcher.time.now_s += search_launcher.PARKED_S

    backend = InMemoryBackend(
        [FIRST, SECOND], on_submit=on_submit, script=steps(nothing, a_minute, nothing, all_end)
    )
    assert launched(backend, screen, tmp_path).run()
    assert [job.slot for job in backend.jobs] == [FIRST, SECOND, SECOND]


def test_where_every_machine_lacks_something_the_search_ends_and_says_what(
    screen: RecordedScreen, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def on_submit(job: InMemoryJob) -> None:
        job.end(Ending.UNFIT, f"{job.slot.host} has no data")

    backend = InMemoryBackend([FIRST, SECOND], on_submit=on_submit, script=steps(nothing))
    with pytest.raises(UnfitMachineError) as raised:
        launched(backend, screen, tmp_path).run()
    assert str(raised.value) == words


def test_what_keeps_every_worker_from_working_ends_the_search_at_once(
    screen: RecordedScreen, tmp_path: Path
) -> None:
    def fails(backend: InMemoryBackend) -> None:
        backend.on("two:0").end(Ending.FAILED, "3 trials failed in a row")

    backend = InMemoryBackend([FIRST, SECOND], script=steps(fails))
    with pytest.raises(SearchFailedError, match="3 trials failed"):
        launched(backend, screen, tmp_path).run()
    assert backend.on("one:0").was_cancelled


def test_what_all_workers_of_one_machine_lack_is_said_once(
    screen: RecordedScreen, tmp_path: Path
) -> None:
    def fails(backend: InMemoryBackend) -> None:
        for job in backend.jobs:
            job.end(Ending.UNFIT, "there are no images")

    backend = InMemoryBackend(
        [WorkerSlot("1", "cpu"), WorkerSlot("2", "cpu")], one_machine=True, script=steps(fails)
    )
    with pytest.raises(UnfitMachineError, match=r"^there are no images$"):
        launched(backend, screen, tmp_path).run()


@pytest.mark.parametrize("ending", [Ending.DIED, Ending.UNFIT])
def test_a_bad_slot_is_parked_with_its_reason_and_tried_again_in_silence(
    screen: RecordedScreen, tmp_path: Path, words: SnapshotAssertion, ending: Ending
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "worker-2.log").write_text("driver: GPU 1 has fallen off the bus\n\n")

    def on_submit(job: InMemoryJob) -> None:
        if job.slot.key == "2":
            job.emit(TrialStarted(backend.jobs.index(job), {}))  # each time it takes another one
            job.end(ending, "was killed by SIGSEGV")

    def later(backend: InMemoryBackend) -> None:
        search_launcher.time.now_s += search_launcher.PARKED_S
        backend.on("1").emit(EpochDone(1, 9, 0.5))

    slots = [WorkerSlot("1", "cuda:0"), WorkerSlot("2", "cuda:1")]
    backend = InMemoryBackend(
        slots, one_machine=True, on_submit=on_submit, script=steps(*[later] * 20, all_end)
    )
    assert launched(backend, screen, tmp_path).run()
    assert len(backend.jobs) > MOST_DEATHS + 5
    assert [note.replace(str(tmp_path), "") for note in screen.notes] == words


def test_deaths_with_work_in_between_are_not_in_a_row(
    screen: RecordedScreen, tmp_path: Path
) -> None:
    def dies_after_work(backend: InMemoryBackend) -> None:
        search_launcher.time.now_s += 2.0**MOST_DEATHS
        job = backend.on("one:0")
        if not job.is_over:
            job.emit(ended(1, TrialState.PRUNED))
            job.emit(TrialStarted(2, {}))
            job.end(Ending.DIED, "was killed by SIGKILL")

    backend = InMemoryBackend([FIRST], script=steps(*[dies_after_work] * 20, all_end))
    assert launched(backend, screen, tmp_path).run()
    assert len(backend.jobs) > 2 * MOST_DEATHS
    assert {re.findall(r"trial 2; .* in (\d+ s)", note)[0] for note in screen.notes} == {"1 s"}


def test_deaths_of_a_lethal_trial_are_not_the_slot_s(
    screen: RecordedScreen, tmp_path: Path
) -> None:
    def dies(number: int) -> Callable[[InMemoryBackend], None]:
        def step(backend: InMemoryBackend) -> None:
            backend.on("one:0").emit(TrialStarted(number, {}))
            backend.on("one:0").end(Ending.DIED, "was killed by SIGKILL")

        return step

    def fails(backend: InMemoryBackend) -> None:
        backend.on("one:0").emit(ended(0, TrialState.FAIL))

    most = MOST_DEATHS - 1
    first, second = [dies(0), later_step] * most, [dies(1), later_step] * most
    script = steps(*first, fails, *second, all_end)
    backend = InMemoryBackend([FIRST], script=script)
    assert launched(backend, screen, tmp_path).run()
    assert len(backend.jobs) == 2 * MOST_DEATHS - 1


def test_a_worker_on_which_trials_fail_is_not_replaced_and_others_go_on(
    screen: RecordedScreen, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def fails(backend: InMemoryBackend) -> None:
        backend.on("two:0").end(Ending.SICK, "3 trials failed in a row on two cpu")

    backend = InMemoryBackend([FIRST, SECOND], script=steps(fails, *[later_step] * 9, all_end))
    assert launched(backend, screen, tmp_path).run()
    assert len(backend.jobs) == 2
    assert screen.notes == words


def test_a_slot_whose_jobs_leave_without_an_epoch_ends_nobody_else(
    screen: RecordedScreen, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def leaves(backend: InMemoryBackend) -> None:
        backend.on("two:0").end(Ending.LEFT, "its time is up")

    rounds = steps(*[leaves] * ROUNDS_WITHOUT_EPOCH, *[nothing] * 9, all_end)
    backend = InMemoryBackend([FIRST, SECOND], script=rounds)
    assert launched(backend, screen, tmp_path).run()
    assert len(backend.jobs) == 1 + ROUNDS_WITHOUT_EPOCH
    assert screen.notes == words


def test_a_worker_that_dies_is_replaced_after_a_pause_that_grows(
    screen: RecordedScreen, tmp_path: Path, words: SnapshotAssertion
) -> None:
    def dies(backend: InMemoryBackend) -> None:
        if not backend.on("one:0").is_over:
            backend.on("one:0").end(Ending.DIED, "was killed by SIGKILL")

    placed: list[float] = []

    def on_submit(job: InMemoryJob) -> None:
        if job.slot == FIRST:
            placed.append(search_launcher.time.now_s)

    backend = InMemoryBackend(
        [FIRST, SECOND], on_submit=on_submit, script=steps(*[dies] * 40, all_end)
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
    def on_submit(job: InMemoryJob) -> None:
        job.is_waiting = job.slot == SECOND

    def one_ends(backend: InMemoryBackend) -> None:
        backend.on("one:0").end(Ending.DONE)

    backend = InMemoryBackend([FIRST, SECOND], on_submit=on_submit, script=steps(one_ends))
    assert launched(backend, screen, tmp_path).run()
    assert backend.on("two:0").was_cancelled


@pytest.mark.parametrize("obeys", [True, False])
def test_ctrl_c_lets_all_leave_and_ends_those_that_do_not(
    screen: RecordedScreen, tmp_path: Path, obeys: bool
) -> None:
    def ctrl_c(backend: InMemoryBackend) -> None:
        for job in backend.jobs:
            job.obeys = obeys
        raise KeyboardInterrupt

    backend = InMemoryBackend([FIRST, SECOND], script=steps(ctrl_c, *[nothing] * 20), leave_s=10.0)
    with pytest.raises(KeyboardInterrupt):
        launched(backend, screen, tmp_path).run()
    for job in backend.jobs:
        assert job.was_cancelled
        assert job.was_killed is not obeys


def test_another_ctrl_c_kills_at_once(screen: RecordedScreen, tmp_path: Path) -> None:
    def ctrl_c(backend: InMemoryBackend) -> None:
        backend.on("one:0").obeys = False
        raise KeyboardInterrupt

    backend = InMemoryBackend([FIRST], script=steps(ctrl_c, nothing, ctrl_c), leave_s=600.0)
    with pytest.raises(KeyboardInterrupt):
        launched(backend, screen, tmp_path).run()
    assert backend.on("one:0").was_killed


def test_a_lost_engine_ends_the_search(screen: RecordedScreen, tmp_path: Path) -> None:
    def lost(backend: InMemoryBackend) -> None:
        backend.is_lost = True

    backend = InMemoryBackend([FIRST], script=steps(lost))
    with pytest.raises(SearchFailedError, match="the cluster is lost"):
        launched(backend, screen, tmp_path).run()
    assert backend.on("one:0").was_cancelled


def test_the_time_limit_ends_the_search(screen: RecordedScreen, tmp_path: Path) -> None:
    backend = InMemoryBackend([FIRST], script=steps(*[nothing] * 50))
    launcher = launched(backend, screen, tmp_path)
    launcher.deadline_s = 30.0
    assert not launcher.run()
    assert backend.on("one:0").was_cancelled
