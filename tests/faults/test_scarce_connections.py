"""More workers than connections: exactly N, and a death is noticed all the same."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

import storage.worker_session
from storage.worker_session import WorkerSession
from tests.faults.conftest import NewSearch, searches
from tests.faults.deaths import Prepare, kill_self, nth_time
from tests.faults.invariants import check
from tests.faults.searching import Pace
from tests.faults.servers import Server
from tests.faults.sleeping_run import SleepingRun

USER = "worker"
ALLOWED = 17
"""Of twenty, Postgres keeps three for superusers."""


@pytest.fixture
def small_server(server: Server) -> Server:
    """A server of twenty connections, whose workers are no superusers."""
    server.restart_with(max_connections=20)
    server.execute(f"CREATE ROLE {USER} LOGIN")
    for things in ("TABLES", "SEQUENCES"):
        server.execute(f"GRANT ALL ON ALL {things} IN SCHEMA public TO {USER}")
    return server


@pytest.fixture
def new_scarce_search(
    data_folder: Path, small_server: Server, tmp_path: Path
) -> Iterator[NewSearch]:
    url = small_server.postgres.url.set(username=USER).render_as_string(hide_password=False)
    yield from searches(data_folder, tmp_path / "home", url)


@contextmanager
def counting(server: Server) -> Iterator[Callable[[], int]]:
    """Looks again and again; yields what returns the most connections that the workers had."""
    most, is_over = 0, threading.Event()
    place = server.postgres.url
    connection = psycopg2.connect(user=place.username, dbname=place.database, **place.query)
    connection.autocommit = True

    def look() -> None:
        nonlocal most
        while not is_over.wait(0.02):
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{USER}'")  # noqa: S608 - ours
                most = max(most, cursor.fetchone()[0])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: most
    finally:
        is_over.set()
        thread.join()
        connection.close()


def test_more_workers_than_connections_finish_exactly_as_many_trials(
    new_scarce_search: NewSearch, small_server: Server
) -> None:
    pace = Pace(epoch_s=0.5, beat_s=1.0, gone_s=5.0, lease_s=9.0)
    search = new_scarce_search(48, epochs=2, pace=pace, pruner={"name": "none"})
    begun = search.begin()
    with counting(small_server) as most:
        workers = [search.start() for _ in range(24)]
        assert [worker.end() for worker in workers] == [0] * 24
    check(search, begun)
    assert 1 < most() <= ALLOWED
    at_work = {line.split()[2] for line in search.diary.read_text().splitlines()}
    assert len(at_work) > ALLOWED, "more than have even one connection each"


def killed_in(times: tuple[int, ...], counter: Path) -> Prepare:
    """Kills in these epochs, counted over all processes, none of which holds a connection."""

    def prepare() -> None:
        # Else the first ones that come hold connections for as long as they are few.
        for share in ("HELD_SHARE", "TAKEN_AGAIN_SHARE"):
            setattr(storage.worker_session, share, 0.0)
        original = SleepingRun.train_epoch

        def doomed(self: SleepingRun, on_batch: object = None) -> object:
            if nth_time(counter) in times:
                kill_self()
            return original(self, on_batch)  # type: ignore[arg-type]

        SleepingRun.train_epoch = doomed  # type: ignore[assignment,method-assign]

    return prepare


def test_a_death_is_noticed_where_nobody_holds_a_connection(
    new_scarce_search: NewSearch, small_server: Server, tmp_path: Path
) -> None:
    pace = Pace(epoch_s=0.2, gone_s=0.5, lease_s=3.0)
    prepare = killed_in((7,), tmp_path / "epochs")
    search = new_scarce_search(12, pace=pace, pruner={"name": "none"}, prepare=prepare)
    begun = search.begin()
    workers = [search.start() for _ in range(6)]
    assert sorted(worker.end() for worker in workers) == [-9, 0, 0, 0, 0, 0]
    check(search, begun)
    ends = "SELECT end_reason, count(*) FROM canopy_worker GROUP BY 1 ORDER BY 1"
    assert small_server.execute(ends) == [("answers no more", 1), ("left", 5)]


def test_connections_are_held_again_where_few_are_left_to_share_them(
    new_scarce_search: NewSearch, small_server: Server
) -> None:
    """Six workers are too many to hold two connections each; three are not."""
    begun = new_scarce_search(1)
    begun.begin()
    url = small_server.postgres.url.set(username=USER)
    sessions = [WorkerSession(url, beat_s=0.05) for _ in range(6)]
    held = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{USER}'"  # noqa: S608 - ours
    for session in sessions:
        session.come_in()
    assert [session.is_short for session in sessions] == 3 * [False] + 3 * [True]
    assert small_server.execute(held) == [(3,)]
    for session in sessions[:3]:
        session.close()
    for session in sessions[3:]:
        session._beat()
    assert [session.is_short for session in sessions[3:]] == 3 * [False]
    locked = "SELECT count(*) FROM canopy_worker WHERE ended IS NULL AND silence_allowed_s IS NULL"
    assert small_server.execute(locked) == [(3,)]
    for session in sessions[3:]:
        session.close()
