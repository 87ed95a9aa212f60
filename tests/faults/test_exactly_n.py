"""Exactly so many finished trials as were asked for, however many workers are at it."""

import pytest

from tests.faults.conftest import NewSearch
from tests.faults.invariants import check
from tests.faults.searching import Pace, Search

# Thirty-two of them on a small machine are slow to say that they live.
CROWDED = Pace(epoch_s=0.02, beat_s=1.0, gone_s=30.0)


@pytest.mark.exhaustive
def test_six_workers_finish_exactly_twenty_trials(new_search: NewSearch) -> None:
    search = new_search(20, epochs=2, pruner={"name": "none"})
    _work(search, 6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("repeat", range(3))
def test_thirty_two_workers_finish_exactly_a_hundred_trials(
    new_search: NewSearch, random_seed: int, repeat: int
) -> None:
    seed = random_seed + repeat
    search = new_search(100, epochs=2, pace=CROWDED, pruner={"name": "none"}, seed=seed)
    _work(search, 32)


def _work(search: Search, workers: int) -> None:
    begun = search.begin()
    search.hold_from(1)  # until all of them are at work
    started = [search.start() for _ in range(workers)]
    search.wait_for_epochs(workers)
    search.let_go()
    assert [worker.end() for worker in started] == [0] * workers
    check(search, begun)
