"""A database that goes away and comes back: workers wait, and nothing shows it."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.faults.conftest import Facts, NewSearch
from tests.faults.invariants import check
from tests.faults.searching import Pace
from tests.faults.servers import Server, again_and_again, terminate_backends

AWAY_S = float(os.environ.get("CANOPY_TEST_AWAY_S", "3"))
SLOW = Pace(epoch_s=0.15)
ENDS: dict[str, Callable[[Server], None]] = {
    "stopped at once": Server.stop_at_once,
    "killed": Server.kill,
}


@pytest.mark.parametrize("how", ENDS)
def test_a_server_that_somebody_starts_again(
    new_own_search: NewSearch,
    undisturbed: Callable[..., Facts],
    server: Server,
    how: str,
) -> None:
    search = new_own_search(pace=SLOW)
    begun = search.begin()
    worker = search.start()
    for epochs in (2, 6):
        search.wait_for_epochs(epochs)
        ENDS[how](server)
        time.sleep(1)
        server.start()
    assert worker.end() == 0, worker.said()
    assert "the database is back" in worker.said()
    outcome = check(search, begun)
    assert outcome.unrecorded == 0
    assert outcome.repeated <= 2  # a checkpoint that could not be written
    assert outcome.facts() == undisturbed()


@pytest.mark.parametrize("how", ENDS)
def test_workers_revive_the_embedded_server(
    new_embedded_search: NewSearch, undisturbed: Callable[..., Facts], how: str
) -> None:
    search = new_embedded_search(pace=SLOW)
    begun = search.begin()
    server = Server(search.home / "postgres")
    worker = search.start()
    for epochs in (2, 6):
        search.wait_for_epochs(epochs)
        ENDS[how](server)
    assert worker.end() == 0, worker.said()
    outcome = check(search, begun)
    assert outcome.unrecorded == 0
    assert outcome.repeated <= 2  # a checkpoint that could not be written
    assert outcome.facts() == undisturbed()


def test_all_is_killed_at_once_and_the_same_search_goes_on(
    new_embedded_search: NewSearch, undisturbed: Callable[..., Facts]
) -> None:
    search = new_embedded_search(pace=SLOW)
    begun = search.begin()
    server = Server(search.home / "postgres")
    for epochs in (2, 6):
        launcher = search.launch(workers=1)
        search.wait_for_epochs(epochs)
        processes = [launcher.process.pid, *search.processes_of(launcher)]
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
        server.kill_all()
        launcher.process.join()
    assert search.launch(workers=1).end() == 0
    outcome = check(search, begun)
    assert outcome.repeated <= 2
    assert outcome.facts() == undisturbed()


def test_workers_that_come_in_while_it_is_away_wait_for_it(
    new_own_search: NewSearch, server: Server
) -> None:
    search = new_own_search(12, pace=SLOW)
    begun = search.begin()
    launcher = search.launch(workers=2)
    search.wait_for_epochs(3)
    server.stop_at_once()
    os.kill(search.processes_of(launcher)[0], signal.SIGKILL)
    late = search.start()
    time.sleep(AWAY_S)
    server.start()
    assert launcher.end(AWAY_S + 60) == 0, launcher.said()
    assert late.end() == 0, late.said()
    outcome = check(search, begun)
    assert outcome.repeated <= 3


def test_after_its_patience_a_worker_leaves_and_the_search_goes_on_later(
    new_own_search: NewSearch, undisturbed: Callable[..., Facts], server: Server
) -> None:
    search = new_own_search(pace=SLOW, patience_s=1.5)
    begun = search.begin()
    worker = search.start()
    search.wait_for_epochs(3)
    server.stop_at_once()
    assert worker.end(30) == 1
    assert "nothing is lost" in worker.said()
    assert "Traceback" not in worker.said()
    server.start()
    assert search.finish() == 0
    outcome = check(search, begun)
    assert outcome.facts() == undisturbed()


def test_connections_that_are_cut_again_and_again(
    new_search: NewSearch, undisturbed: Callable[..., Facts]
) -> None:
    search = new_search(pace=SLOW)
    begun = search.begin()
    worker = search.start()
    search.wait_for_epochs(1)
    url = search.url or ""
    again_and_again(lambda: terminate_backends(url, share=0.7), every_s=0.1, for_s=2)
    assert worker.end() == 0, worker.said()
    outcome = check(search, begun)
    assert outcome.unrecorded == 0
    assert outcome.repeated <= 2  # a checkpoint that could not be written
    assert outcome.facts() == undisturbed()


def test_a_server_whose_connections_are_all_taken(
    new_own_search: NewSearch, undisturbed: Callable[..., Facts], server: Server
) -> None:
    search = new_own_search(pace=SLOW)
    begun = search.begin()
    server.restart_with(max_connections=3, superuser_reserved_connections=0, reserved_connections=0)
    first = search.start()
    search.wait_for_epochs(2)
    others = [search.start() for _ in range(3)]
    time.sleep(1)
    assert first.end() == 0, first.said()
    for worker in others:
        assert worker.end() == 0, worker.said()
    server.restart_with(max_connections=20)
    check(search, begun)
