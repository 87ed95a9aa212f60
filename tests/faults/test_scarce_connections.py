"""More workers than connections: exactly N, and a death is noticed all the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from canopy_search.storage.workers import session as worker_session
from canopy_search.storage.workers.session import WorkerSession
from tests.faults.conftest import NewSearch, searches
from tests.faults.deaths import Prepare, kill_self, nth_time
from tests.faults.invariants import check
from tests.faults.searching import Pace, wait_until
from tests.faults.servers import Server
from tests.faults.sleeping_run import SleepingRun

USER = "worker"
KEPT = 3
"""Of all connections, Postgres keeps so many for superusers."""


@pytest.fixture
def small_server(server: Server) -> Server:
    """A server of few connections, whose workers are no superusers."""
    server.restart_with(max_connections=KEPT + 17)
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


CROWDS = [(5, 7), pytest.param(17, 24, marks=pytest.mark.exhaustive)]
"""Connections and workers."""


@pytest.mark.parametrize(("allowed", "workers"), CROWDS)
def test_more_workers_than_connections_finish_exactly_as_many_trials(
    new_scarce_search: NewSearch, small_server: Server, allowed: int, workers: int
) -> None:
    small_server.restart_with(max_connections=KEPT + allowed)
    pace = Pace(beat_s=0.2, gone_s=5.0)
    search = new_scarce_search(2 * workers, epochs=2, pace=pace, pruner={"name": "none"})
    begun = search.begin()
    search.hold_from(1)
    started = [search.start() for _ in range(workers)]
    search.wait_for_epochs(workers)  # more are at work than have even one connection each
    search.let_go()
    assert [worker.end() for worker in started] == [0] * workers
    check(search, begun)


def killed_in(times: tuple[int, ...], counter: Path) -> Prepare:
    """Kills in these epochs, counted over all processes, none of which holds a connection."""

    def prepare() -> None:
        # Else the first ones that come hold connections for as long as they are few.
        for share in ("KEEP_OPEN_SHARE", "REOPEN_SHARE"):
            setattr(worker_session, share, 0.0)
        original = SleepingRun.train_epoch

        def doomed(self: SleepingRun, on_batch: object = None) -> object:
            if nth_time(counter) in times:
                kill_self()
            return original(self, on_batch)

        SleepingRun.train_epoch = doomed

    return prepare


def test_a_death_is_noticed_where_nobody_holds_a_connection(
    new_scarce_search: NewSearch, small_server: Server, tmp_path: Path
) -> None:
    prepare = killed_in((7,), tmp_path / "epochs")
    search = new_scarce_search(9, pruner={"name": "none"}, prepare=prepare)
    begun = search.begin()
    search.hold_from(5)
    workers = [search.start() for _ in range(4)]
    search.wait_for_epochs(7)
    wait_until(lambda: not all(each.process.is_alive() for each in workers), "one is killed")
    dead = next(each for each in workers if not each.process.is_alive())
    # What its silence comes to, without the wait.
    silent = f"UPDATE canopy_worker SET seen = seen - interval '1 hour' WHERE pid = {dead.pid}"  # noqa: S608 - ours
    small_server.execute(silent)
    search.let_go()
    assert sorted(worker.end() for worker in workers) == [-9, 0, 0, 0]
    check(search, begun)
    ends = "SELECT end_reason, count(*) FROM canopy_worker GROUP BY 1 ORDER BY 1"
    assert small_server.execute(ends) == [("answers no more", 1), ("left", 3)]


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
        session.register()
    assert [session.is_throttled for session in sessions] == 3 * [False] + 3 * [True]
    assert small_server.execute(held) == [(3,)]
    for session in sessions[:3]:
        session.close()
    for session in sessions[3:]:
        session._beat()
    assert [session.is_throttled for session in sessions[3:]] == 3 * [False]
    locked = "SELECT count(*) FROM canopy_worker WHERE ended IS NULL AND silence_allowed_s IS NULL"
    assert small_server.execute(locked) == [(3,)]
    for session in sessions[3:]:
        session.close()
