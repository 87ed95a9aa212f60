"""Exactly so many finished trials as were asked for, however many workers are at it."""

import os

import pytest

from tests.faults.conftest import NewSearch
from tests.faults.invariants import check
from tests.faults.searching import Pace

REPEATS = int(os.environ.get("CANOPY_TEST_REPEATS", "1"))
# Thirty-two of them on a small machine are slow to say that they live.
CROWDED = Pace(epoch_s=0.02, beat_s=1.0, gone_s=5.0, lease_s=30.0)


@pytest.mark.parametrize("repeat", range(REPEATS))
def test_thirty_two_workers_finish_exactly_a_hundred_trials(
    new_search: NewSearch, repeat: int
) -> None:
    search = new_search(100, epochs=2, pace=CROWDED, pruner={"name": "none"}, seed=repeat)
    begun = search.begin()
    workers = [search.start() for _ in range(32)]
    assert [worker.end() for worker in workers] == [0] * 32
    check(search, begun)
