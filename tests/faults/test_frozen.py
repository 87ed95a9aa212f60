"""Workers that are frozen for longer than their lease, clocks that jump, a study that is locked."""

import datetime
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy

from canopy_search.storage.study import replica, trial_changes
from canopy_search.storage.study.trial_queue import TrialQueue
from canopy_search.storage.workers import session as worker_session
from tests.faults.conftest import Facts, NewSearch
from tests.faults.deaths import Prepare, before, freeze_self
from tests.faults.invariants import check
from tests.faults.searching import Pace, Search, wait_until
from tests.faults.sleeping_run import SleepingRun, epochs_in
from tests.shared_servers import execute

# A frozen process holds up the others for as long as the server lets it idle in a transaction.
QUICK = Pace(idle_limit_s=1.2)
POINTS: dict[str, Callable[[Path], Prepare]] = {
    "in an epoch": lambda c: before(SleepingRun, "state", c, {3}, freeze_self),
    "while it decides": lambda c: before(TrialQueue, "_write", c, {2}, freeze_self),
    "while it writes": lambda c: before(trial_changes, "write_change", c, {4}, freeze_self),
    "while it beats": lambda c: before(worker_session, "beat", c, {4}, freeze_self),
}


def is_frozen(search: Search) -> bool:
    state = Path(f"/proc/{search.workers[0].pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_wakes_after_its_lease_takes_other_work(
    new_search: NewSearch, tmp_path: Path, point: str
) -> None:
    search = new_search(8, pace=QUICK)
    begun = search.begin()
    search.hold_from(6)  # it freezes before that, or soon after it began to wait
    frozen = search.start(POINTS[point](tmp_path / "counter"))
    wait_until(lambda: is_frozen(search), "it freezes")
    has_begun = len(epochs_in(search.diary, "begins"))
    # What a lease of half a minute comes to, without the wait; again and again, for the server may
    # not have heard yet what the process said before it froze.
    silent = f"UPDATE canopy_worker SET seen = seen - interval '1 hour' WHERE pid = {frozen.pid}"  # noqa: S608 - ours

    def is_missed() -> bool:
        execute(search.url or "", silent)
        return not {"answers no more", "died"}.isdisjoint(ends(search))

    search.let_go()
    other = search.start()
    wait_until(is_missed, "it is missed")
    search.wait_for_epochs(has_begun + 1)
    frozen.send(signal.SIGCONT)
    assert other.end() == 0, other.said()
    assert frozen.end() == 0, frozen.said()
    if point == "in an epoch":
        assert "taken over by another worker" in frozen.said()
    outcome = check(search, begun)
    assert outcome.repeated <= 2


def ends(search: Search) -> list[str | None]:
    """Returns why workers are not there any more."""
    return [row[0] for row in execute(search.url or "", "SELECT end_reason FROM canopy_worker")]


def test_workers_that_wait_for_their_turn_declare_nobody_dead(new_search: NewSearch) -> None:
    search = new_search(9)
    begun = search.begin()
    search.hold_from(4)
    workers = [search.start() for _ in range(3)]
    search.wait_for_epochs(6)  # all three are in the middle of one
    engine = sqlalchemy.create_engine(search.url or "", poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("SELECT 1 FROM studies FOR UPDATE"))
        search.let_go()
        wait_until(lambda: some_wait(search), "one waits for its turn")
        (began,) = execute(search.url or "", "SELECT clock_timestamp()")[0]
        # What it believes of the others is older than what they have said since.
        wait_until(
            lambda: all(
                (row[0] - began).total_seconds() > 1.5
                for row in execute(search.url or "", "SELECT seen FROM canopy_worker")
            ),
            "all have said since that they live",
        )
    assert [worker.end() for worker in workers] == [0, 0, 0]
    assert ends(search) == ["left"] * 3
    check(search, begun)


def some_wait(search: Search) -> bool:
    waiting = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """
    return bool(execute(search.url or "", waiting)[0][0])


@pytest.mark.parametrize("days", [-3, 3])
def test_a_clock_that_jumps_changes_nothing(
    new_search: NewSearch, undisturbed: Callable[..., Facts], days: int
) -> None:
    def jumping() -> None:
        real, diary = time.time, search.diary

        def shift() -> datetime.timedelta:
            return datetime.timedelta(days=days * (len(epochs_in(diary, "begins")) > 6))

        class Jumping(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> "Jumping":
                return super().now(tz) + shift()

        time.time = lambda: real() + shift().total_seconds()
        replica.datetime = Jumping
        trial_changes.datetime = Jumping

    search = new_search()
    begun = search.begin()
    assert search.start(jumping).end() == 0
    outcome = check(search, begun)
    assert outcome.repeated == outcome.wasted == 0
    assert outcome.facts() == undisturbed()
    assert ends(search) == ["left"]


def test_beside_a_clock_that_jumps_nobody_is_declared_dead(new_search: NewSearch) -> None:
    def ahead() -> None:
        real = time.time
        time.time = lambda: real() + 86_400

    search = new_search()
    begun = search.begin()
    search.hold_from(1)
    workers = [search.start(ahead), search.start()]
    search.wait_for_epochs(2)
    search.let_go()
    assert [worker.end() for worker in workers] == [0, 0]
    assert ends(search) == ["left"] * 2
    check(search, begun)
