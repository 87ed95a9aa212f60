"""The main job: it is killed, or there are two of it."""

import psutil

from tests.faults.conftest import NewSearch
from tests.faults.invariants import check
from tests.faults.searching import wait_until


def test_workers_whose_launcher_is_killed_leave_and_the_search_goes_on(
    new_search: NewSearch,
) -> None:
    search = new_search(8)
    begun = search.begin()
    search.hold_from(3)
    launcher = search.launch(workers=2)
    search.wait_for_epochs(4)  # both are in the middle of one
    workers = search.processes_of(launcher)
    assert len(workers) == 2
    launcher.kill()
    psutil.wait_procs(workers)
    search.let_go()
    launcher = search.launch(workers=2)
    assert launcher.end() == 0, launcher.said()
    outcome = check(search, begun)
    assert outcome.repeated <= 2


def test_a_launcher_replaces_workers_that_are_killed(new_search: NewSearch) -> None:
    search = new_search(8)
    begun = search.begin()
    search.hold_from(3)
    launcher = search.launch(workers=2)
    for kills, epoch in enumerate((3, 6), start=1):
        search.hold_from(epoch)
        search.wait_for_epochs(epoch)
        search.processes_of(launcher)[0].kill()
        wait_until(lambda seen=kills: launcher.said().count("SIGKILL") == seen, "it is missed")
        wait_until(lambda: len(search.processes_of(launcher)) == 2, "another one begins")
    search.let_go()
    assert launcher.end() == 0, launcher.said()
    assert launcher.said().count("SIGKILL") == 2
    outcome = check(search, begun)
    assert outcome.repeated <= 2


def test_two_launchers_work_on_one_study(new_search: NewSearch) -> None:
    search = new_search(8)
    begun = search.begin()
    search.hold_from(1)
    launchers = [search.launch(workers=2), search.launch(workers=1)]
    search.wait_for_epochs(3)
    search.let_go()
    for launcher in launchers:
        assert launcher.end() == 0, launcher.said()
    outcome = check(search, begun)
    assert outcome.repeated == outcome.wasted == 0
