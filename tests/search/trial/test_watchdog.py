"""When a trial has stalled; time passes only while the watchdog waits, and as a test says."""

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from canopy_search.search.trial import watchdog as search_watchdog
from canopy_search.search.trial.watchdog import STALLED, Watchdog
from canopy_search.storage.study.trial_changes import Lease
from canopy_search.training.liveness import LONGEST_SILENCE_S, progressed, silent_step
from tests.waiting import HANG_S

LEASE = Lease(trial_id=3, number=3, worker=1, token=1)
STALL_S = 60.0
LOOK_S = STALL_S / 10


class MadeUpTime:
    """A clock that goes on whenever the watchdog waits, and what happens meanwhile.

    Attributes:
        now_s: that it shows.
        happens: is called with the number of each wait; what it returns passes besides, and from
            the wait on for which it returns None only the end of the watch ends a wait.
    """

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.happens: Callable[[int], float | None] = lambda _wait: 0.0

    def monotonic(self) -> float:
        return self.now_s

    def event(self) -> "MadeUpEvent":
        return MadeUpEvent(self)


class MadeUpEvent:
    """An event for which one waits in made-up time."""

    def __init__(self, time: MadeUpTime) -> None:
        self.time = time
        self.waits = 0
        self.real = threading.Event()

    def set(self) -> None:
        self.real.set()

    def wait(self, timeout_s: float) -> bool:
        self.waits += 1
        more_s = self.time.happens(self.waits)
        if more_s is None:
            return self.real.wait(HANG_S)
        self.time.now_s += timeout_s + more_s
        return self.real.is_set()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> MadeUpTime:
    time = MadeUpTime()
    threads = SimpleNamespace(Event=time.event, Thread=threading.Thread)
    monkeypatch.setattr(search_watchdog, "time", time)
    monkeypatch.setattr(search_watchdog, "threading", threads)
    return time


class WorkerEvent:
    """What the watchdog did."""

    def __init__(self) -> None:
        self.stalls: list[tuple[int, str]] = []
        self.ends: list[int] = []
        self.ended = threading.Event()

    def on_stall(self, lease: Lease, reason: str) -> None:
        self.stalls.append((lease.number, reason))

    def end(self, status: int) -> None:
        self.ends.append(status)
        self.ended.set()

    def watchdog(self, stall_s: float | None = STALL_S) -> Watchdog:
        return Watchdog(stall_s, self.on_stall, self.end)


def watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "canopy watchdog"]


def test_a_trial_without_progress_is_ended_with_the_reason(time: MadeUpTime) -> None:
    told = WorkerEvent()
    with told.watchdog().watching(LEASE):
        assert told.ended.wait(HANG_S)
    assert told.ends == [STALLED]
    assert time.now_s == 1000 + STALL_S + LOOK_S
    assert told.stalls == [(3, f"stall_s: no progress for {STALL_S + LOOK_S:.0f} s")]


def test_progress_keeps_it_alive_and_nothing_is_watched_afterwards(time: MadeUpTime) -> None:
    told = WorkerEvent()
    watchdog = told.watchdog()
    is_over = threading.Event()

    def progress(wait: int) -> float | None:
        if wait > 100:
            is_over.set()
            return None
        if wait % 10 == 0:
            watchdog.progress()
        return 0.0

    time.happens = progress
    with watchdog.watching(LEASE):
        assert is_over.wait(HANG_S)
        (thread,) = watching()
    thread.join(HANG_S)
    assert watching() == []
    assert time.now_s >= 1000 + 100 * LOOK_S
    assert told.ends == []


def test_it_ends_the_process_even_if_nothing_can_be_recorded(
    time: MadeUpTime, capsys: pytest.CaptureFixture[str]
) -> None:
    told = WorkerEvent()

    def fail(_lease: Lease, _reason: str) -> None:
        raise ConnectionError

    with Watchdog(STALL_S, fail, told.end).watching(LEASE):
        assert told.ended.wait(HANG_S)
    assert told.ends == [STALLED]
    assert "ConnectionError" in capsys.readouterr().err


def test_it_can_be_off() -> None:
    with WorkerEvent().watchdog(None).watching(LEASE):
        assert watching() == []


@pytest.mark.parametrize("stopped_s", [STALL_S * 0.6, 3600.0])  # or a laptop that slept
def test_a_process_that_was_stopped_gets_its_time_again(time: MadeUpTime, stopped_s: float) -> None:
    told = WorkerEvent()
    time.happens = lambda wait: stopped_s if wait == 5 else 0.0
    with told.watchdog().watching(LEASE):
        assert told.ended.wait(HANG_S)
    woke_s = 1000 + 5 * LOOK_S + stopped_s
    assert time.now_s == woke_s + STALL_S + LOOK_S
    assert told.ends == [STALLED]


@pytest.fixture
def prepared(time: MadeUpTime) -> threading.Event:
    """Lets no time pass before it is set."""
    prepared = threading.Event()

    def wait(_wait: int) -> float:
        assert prepared.wait(HANG_S)
        return 0.0

    time.happens = wait
    return prepared


def test_a_step_that_cannot_report_may_be_silent_for_longer_but_not_for_ever(
    time: MadeUpTime, prepared: threading.Event
) -> None:
    told = WorkerEvent()
    watchdog = told.watchdog()
    with watchdog.watching(LEASE), silent_step():
        watchdog.progress()  # of what it waits for: that does not end the step
        prepared.set()
        assert told.ended.wait(HANG_S)
    assert time.now_s == 1000 + LONGEST_SILENCE_S + STALL_S + LOOK_S
    assert told.ends == [STALLED]


def test_after_a_silent_step_the_usual_limit_holds(
    time: MadeUpTime, prepared: threading.Event
) -> None:
    told = WorkerEvent()
    with told.watchdog().watching(LEASE):
        with silent_step():
            pass
        progressed()
        prepared.set()
        assert told.ended.wait(HANG_S)
    assert time.now_s == 1000 + STALL_S + LOOK_S


def test_nobody_needs_to_listen() -> None:
    with silent_step():
        progressed()
