"""Stages that several workers want: a lease is nobody's who does not train."""

import sqlalchemy

from canopy_search.search.trial.objective import Objective
from tests.faults.conftest import NewSearch
from tests.faults.invariants import check
from tests.faults.searching import wait_until


def test_a_trial_that_pauses_keeps_nobody_from_its_next_epoch(new_search: NewSearch) -> None:
    search = new_search(8, pruner={"name": "asha", "reduction_factor": 2})
    begun = search.begin()
    waits, goes_on = search.home / "waits", search.home / "goes on"

    def wait_at_the_third() -> None:
        original, numbers = Objective.run_trial, []

        def run(self: Objective, trial: object) -> object:
            numbers.append(trial)
            if len(numbers) == 3:
                waits.touch()
                wait_until(goes_on.exists, "it may go on")
            return original(self, trial)

        Objective.run_trial = run

    worker = search.start(wait_at_the_third)
    wait_until(waits.exists, "two trials pause")
    engine = sqlalchemy.create_engine(search.url or "", poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        leases = sqlalchemy.text("SELECT count(*) FROM canopy_stage_lease")
        assert connection.scalar(leases) == 0
    goes_on.touch()
    assert worker.end() == 0, worker.said()
    check(search, begun)
