"""The main job: it is killed, or there are two of it."""

import psutil

from storage.postmaster import is_alive
from tests.faults.conftest import NewSearch
from tests.faults.invariants import check
from tests.faults.searching import Pace, wait_until

SLOW = Pace(epoch_s=0.15)


def test_workers_whose_launcher_is_killed_leave_and_the_search_goes_on(
    new_search: NewSearch,
) -> None:
    search = new_search(10, pace=SLOW)
    begun = search.begin()
    for epochs in (3, 8):
        launcher = search.launch(workers=2)
        search.wait_for_epochs(epochs)
        workers = search.processes_of(launcher)
        assert len(workers) == 2
        processes = [psutil.Process(pid) for pid in workers]
        launcher.kill()
        wait_until(lambda: not any(map(is_alive, processes)), "they leave", limit_s=5)  # noqa: B023
    assert search.launch(workers=2).end() == 0
    outcome = check(search, begun)
    assert outcome.repeated <= 4


def test_a_launcher_replaces_workers_that_are_killed(new_search: NewSearch) -> None:
    search = new_search(12, pace=SLOW)
    begun = search.begin()
    launcher = search.launch(workers=2)
    for epochs in (3, 8, 13):
        search.wait_for_epochs(epochs)
        worker = psutil.Process(search.processes_of(launcher)[0])
        worker.kill()
        wait_until(lambda: not worker.is_running(), "it is buried")  # noqa: B023
    assert launcher.end() == 0, launcher.said()
    assert launcher.said().count("was killed by SIGKILL") == 3
    outcome = check(search, begun)
    assert outcome.repeated <= 3


def test_two_launchers_work_on_one_study(new_search: NewSearch) -> None:
    search = new_search(12, pace=SLOW)
    begun = search.begin()
    launchers = [search.launch(workers=2), search.launch(workers=1)]
    for launcher in launchers:
        assert launcher.end() == 0, launcher.said()
    outcome = check(search, begun)
    assert outcome.repeated == outcome.wasted == 0
