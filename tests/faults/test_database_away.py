"""A database that goes away and comes back: workers wait, and nothing shows it."""

import time
from collections.abc import Callable

import psutil
import pytest

from tests.faults.conftest import Facts, NewSearch
from tests.faults.invariants import check
from tests.faults.searching import Pace, Search, Worker, wait_until
from tests.faults.servers import Server, again_and_again, terminate_backends

HELD_AT = (3, 7)
"""The epochs in whose middle something happens."""
OUTAGES_S = [0.0, pytest.param(60.0, marks=pytest.mark.exhaustive)]
"""How much longer a server is away than until all workers have noticed."""
STOPPED, KILLED = "stopped at once", "killed"
ENDS: dict[str, Callable[[Server], None]] = {STOPPED: Server.stop_at_once, KILLED: Server.kill}


def wait_until_noticed(worker: Worker, *, is_away: bool = True) -> None:
    """Waits until a worker's last word of its database is that it is away, or that it is back."""

    def is_noticed() -> bool:
        said = worker.said()
        return is_away == (said.count("database is unavailable") > said.count("database is back"))

    wait_until(is_noticed, "it is noticed")


def come_to(search: Search, epoch: int) -> None:
    """Lets all go on to the middle of an epoch, where they wait."""
    search.hold_from(epoch)
    search.wait_for_epochs(epoch)


@pytest.mark.parametrize("how", [STOPPED, pytest.param(KILLED, marks=pytest.mark.exhaustive)])
def test_a_server_that_somebody_starts_again(
    new_own_search: NewSearch,
    undisturbed: Callable[..., Facts],
    server: Server,
    how: str,
) -> None:
    search = new_own_search()
    begun = search.begin()
    search.hold_from(HELD_AT[0])
    worker = search.start()
    for epoch in HELD_AT:
        come_to(search, epoch)
        ENDS[how](server)
        search.hold_from(epoch + 2)
        wait_until_noticed(worker)
        server.start()
        wait_until_noticed(worker, is_away=False)
    search.let_go()
    assert worker.end() == 0, worker.said()
    outcome = check(search, begun)
    assert outcome.unrecorded == 0
    assert outcome.repeated <= 2  # a checkpoint that could not be written
    assert outcome.facts() == undisturbed()


@pytest.mark.parametrize("how", [KILLED, pytest.param(STOPPED, marks=pytest.mark.exhaustive)])
def test_workers_revive_the_embedded_server(
    new_embedded_search: NewSearch, undisturbed: Callable[..., Facts], how: str
) -> None:
    search = new_embedded_search()
    begun = search.begin()
    server = Server(search.home / "postgres")
    search.hold_from(HELD_AT[0])
    worker = search.start()
    for epoch in HELD_AT:
        come_to(search, epoch)
        ENDS[how](server)
    search.let_go()
    assert worker.end() == 0, worker.said()
    outcome = check(search, begun)
    assert outcome.unrecorded == 0
    assert outcome.repeated <= 2  # a checkpoint that could not be written
    assert outcome.facts() == undisturbed()


def test_all_is_killed_at_once_and_the_same_search_goes_on(
    new_embedded_search: NewSearch, undisturbed: Callable[..., Facts]
) -> None:
    search = new_embedded_search()
    begun = search.begin()
    server = Server(search.home / "postgres")
    for epoch in HELD_AT:
        search.hold_from(epoch)
        launcher = search.launch(workers=1)
        search.wait_for_epochs(epoch)
        workers = search.processes_of(launcher)
        launcher.kill()
        for worker in workers:
            worker.kill()
        server.kill_all()
        psutil.wait_procs(workers)
    search.let_go()
    launcher = search.launch(workers=1)
    assert launcher.end() == 0, launcher.said()
    outcome = check(search, begun)
    assert outcome.repeated <= 2
    assert outcome.facts() == undisturbed()


@pytest.mark.parametrize("longer_s", OUTAGES_S)
def test_workers_that_come_in_while_it_is_away_wait_for_it(
    new_own_search: NewSearch, server: Server, longer_s: float
) -> None:
    search = new_own_search(8)
    begun = search.begin()
    search.hold_from(3)
    launcher = search.launch(workers=2)
    search.wait_for_epochs(4)  # both are in the middle of one
    server.stop_at_once()
    search.processes_of(launcher)[0].kill()
    late = search.start()
    wait_until_noticed(late)
    time.sleep(longer_s)
    server.start()
    search.let_go()
    assert launcher.end() == 0, launcher.said()
    assert late.end() == 0, late.said()
    outcome = check(search, begun)
    assert outcome.repeated <= 3


def test_after_its_patience_a_worker_leaves_and_the_search_goes_on_later(
    new_own_search: NewSearch, undisturbed: Callable[..., Facts], server: Server
) -> None:
    search = new_own_search(retry_for_s=1.0)
    begun = search.begin()
    search.hold_from(3)
    worker = search.start()
    search.wait_for_epochs(3)
    server.stop_at_once()
    search.let_go()
    assert worker.end() == 1
    assert "nothing is lost" in worker.said()
    assert "Traceback" not in worker.said()
    server.start()
    assert search.finish() == 0
    outcome = check(search, begun)
    assert outcome.facts() == undisturbed()


def test_connections_that_are_cut_again_and_again(
    new_search: NewSearch, undisturbed: Callable[..., Facts]
) -> None:
    search = new_search(pace=Pace(epoch_s=0.1))
    begun = search.begin()
    search.hold_from(1)
    worker = search.start()
    search.wait_for_epochs(1)
    search.let_go()
    url = search.url or ""
    again_and_again(lambda: terminate_backends(url, share=0.7), every_s=0.1, times=15)
    assert worker.end() == 0, worker.said()
    outcome = check(search, begun)
    assert outcome.unrecorded == 0
    assert outcome.repeated <= 2  # a checkpoint that could not be written
    assert outcome.facts() == undisturbed()


def test_a_server_whose_connections_are_all_taken(
    new_own_search: NewSearch, server: Server
) -> None:
    search = new_own_search()
    begun = search.begin()
    server.restart_with(max_connections=3, superuser_reserved_connections=0, reserved_connections=0)
    search.hold_from(3)
    first = search.start()
    search.wait_for_epochs(3)
    others = [search.start() for _ in range(3)]
    search.wait_for_epochs(6)  # four are at work, with three connections
    search.let_go()
    for worker in (first, *others):
        assert worker.end() == 0, worker.said()
    server.restart_with(max_connections=20)
    check(search, begun)
