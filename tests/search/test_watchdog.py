import threading
import time

import pytest

from search.watchdog import STALLED, Watchdog
from storage.trial_changes import Lease

LEASE = Lease(trial_id=3, number=3, worker=1, token=1)


class Told:
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

    def watchdog(self, stall_s: float | None) -> Watchdog:
        return Watchdog(stall_s, self.on_stall, self.end)


def test_a_trial_without_progress_is_ended_with_the_reason() -> None:
    told = Told()
    with told.watchdog(0.2).watching(LEASE):
        assert told.ended.wait(10)
    assert told.ends == [STALLED]
    [(number, reason)] = told.stalls
    assert number == 3
    assert reason.startswith("stall_s: no progress for ")


def test_progress_keeps_it_alive_and_nothing_is_watched_afterwards() -> None:
    told = Told()
    watchdog = told.watchdog(0.5)
    with watchdog.watching(LEASE):
        for _ in range(20):
            time.sleep(0.05)
            watchdog.progress()
    time.sleep(0.7)
    assert told.ends == []


def test_it_ends_the_process_even_if_nothing_can_be_recorded() -> None:
    told = Told()

    def fail(_lease: Lease, _reason: str) -> None:
        raise ConnectionError

    with Watchdog(0.1, fail, told.end).watching(LEASE):
        assert told.ended.wait(10)


def test_it_can_be_off() -> None:
    told = Told()
    before = threading.active_count()
    with told.watchdog(None).watching(LEASE):
        assert threading.active_count() == before


def test_a_process_that_was_stopped_gets_its_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    now = [1000.0]
    monkeypatch.setattr("search.watchdog.time.monotonic", lambda: now[0])
    with told.watchdog(0.4).watching(LEASE):
        now[0] += 3600  # a laptop that slept
        time.sleep(0.2)
        assert told.ends == []
        for _ in range(10):
            now[0] += 0.1
            time.sleep(0.05)
        assert told.ended.wait(10)
