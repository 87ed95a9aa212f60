"""Settings that end their workers, and places where every trial goes wrong: nobody else suffers."""

import re
from collections.abc import Callable

import pytest

from canopy_search.storage.workers.session import WorkerSession
from tests.faults.conftest import NewSearch
from tests.faults.deaths import in_epochs_where, kill_self, lose_the_accelerator, replace_at_once
from tests.faults.invariants import check, reasons


def go_wrong() -> None:
    raise OSError("Stale file handle")


@pytest.mark.parametrize(
    ("lethal", "do", "says"),
    [
        ({2, 5}, kill_self, "was killed by SIGKILL"),
        pytest.param(
            {0, 1}, lose_the_accelerator, "illegal memory access", marks=pytest.mark.exhaustive
        ),
    ],
)
def test_of_eight_trials_and_two_lethal_ones_eight_finish(
    new_search: NewSearch, lethal: set[int], do: Callable[[], None], says: str
) -> None:
    prepare = in_epochs_where(lambda _place, number: number in lethal, do)
    search = new_search(8, pruner={"name": "none"}, prepare=prepare)
    begun = search.begin()
    launcher = search.launch(workers=1)
    assert launcher.end() == 0, launcher.said()
    outcome = check(search, begun, failed=2)
    assert {number for number, _ in reasons(outcome.trials)} == lethal
    for number, reason in reasons(outcome.trials):
        assert reason.startswith("ends its workers: 4 in a row died while running it"), reason
        said = launcher.said()
        assert re.search(rf"{says}.* while running trial {number}; a new one starts", said), said
        assert re.search(rf"trial +{number} failed .*optimizer.lr.*{reason}", said), said
    assert "parked" not in launcher.said()


@pytest.mark.parametrize(
    "do", [pytest.param(kill_self, marks=pytest.mark.exhaustive), lose_the_accelerator]
)
def test_a_slot_on_which_every_worker_dies_fails_no_trial(
    new_search: NewSearch, do: Callable[[], None]
) -> None:
    prepare = in_epochs_where(lambda place, _number: place.endswith("cpu 2"), do)
    search = new_search(12, pruner={"name": "none"}, prepare=prepare)
    begun = search.begin()
    launcher = search.launch(workers=2)
    assert launcher.end() == 0, launcher.said()
    check(search, begun)


def test_a_slot_on_which_every_trial_fails_is_parked(new_search: NewSearch) -> None:
    prepare = in_epochs_where(lambda place, _number: place.endswith("cpu 2"), go_wrong)
    search = new_search(12, pruner={"name": "none"}, max_failures=3, prepare=prepare)
    begun = search.begin()
    search.hold_from(4)  # the healthy one finishes nothing meanwhile
    launcher = search.launch(workers=2)
    launcher.wait_until_said("worker 2 is parked: 3 trials failed in a row on ")
    search.let_go()
    assert launcher.end() == 0, launcher.said()
    outcome = check(search, begun, failed=3)
    for _, reason in reasons(outcome.trials):
        assert reason == "OSError: Stale file handle"


def test_where_every_slot_is_bad_the_search_ends_with_their_reasons(new_search: NewSearch) -> None:
    def before_any_trial() -> None:
        replace_at_once()
        WorkerSession.register = lambda _self: kill_self()

    search = new_search(4, prepare=before_any_trial)
    search.begin()
    launcher = search.launch(workers=2)
    assert launcher.end() == 1
    for worker in ("worker 1", "worker 2"):
        parked = rf"{worker} is parked: its workers died 5 times in a row.*SIGKILL; its log, .*"
        assert re.search(parked, launcher.said()), launcher.said()
