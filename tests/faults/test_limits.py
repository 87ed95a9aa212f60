"""Trials that kill, hang, last or fail, and what a worker takes of the server."""

import time
from typing import Any

import pytest
import sqlalchemy
from optuna.trial import Trial, TrialState
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.study import plan as search_plan
from canopy_search.search.study import record as search_record
from canopy_search.search.trial.objective import Objective
from canopy_search.search.trial.watchdog import STALLED
from canopy_search.search.workers.loop import MOST_DEATHS
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workspace import Workspace
from tests.faults.conftest import NewSearch
from tests.faults.deaths import Prepare, kill_self
from tests.faults.invariants import check, reasons
from tests.faults.searching import STUDY, Pace, Search, wait_until
from tests.faults.servers import Server
from tests.faults.sleeping_run import SleepingRun


def states(search: Search) -> list[str]:
    database = Workspace(search.home, search.url).open()
    store = StudyStore(database)
    found = [trial.state.name for trial in store.load_study(STUDY).get_trials(deepcopy=False)]
    store.close()
    database.close()
    return found


def in_epochs(number: int, do: Any) -> Prepare:
    """Does something in every epoch of the `number`-th trial."""

    def prepare() -> None:
        run_trial, train_epoch = Objective.run_trial, SleepingRun.train_epoch
        at: list[int] = []

        def run(self: Objective, trial: Trial) -> object:
            at.append(trial.number)
            return run_trial(self, trial)

        def train(self: SleepingRun, on_batch: Any = None) -> object:
            if at[-1] == number:
                do()
            return train_epoch(self, on_batch)

        Objective.run_trial = run
        SleepingRun.train_epoch = train

    return prepare


def test_a_trial_that_kills_every_worker_ends_as_failed(
    new_search: NewSearch, words: SnapshotAssertion
) -> None:
    search = new_search(pruner={"name": "none"}, prepare=in_epochs(1, kill_self))
    begun = search.begin()
    assert search.finish(deaths=MOST_DEATHS) == MOST_DEATHS
    outcome = check(search, begun, failed=1)
    ((number, reason),) = reasons(outcome.trials)
    assert number == 1
    assert reason == words


def test_a_trial_that_hangs_ends_and_its_worker_with_it(
    new_search: NewSearch,
) -> None:
    def hang() -> None:
        time.sleep(600)

    # A trial that trains is never so long without progress, however slow the machine is.
    search = new_search(3, stall_s=4.0, pruner={"name": "none"}, prepare=in_epochs(2, hang))
    begun = search.begin()
    worker = search.start()
    assert worker.end() == STALLED
    assert search.finish() == 0
    outcome = check(search, begun, failed=1)
    ((number, reason),) = reasons(outcome.trials)
    assert number == 2
    assert reason.startswith("stall_s: ")


def test_waiting_for_a_database_is_no_stall(new_own_search: NewSearch, server: Server) -> None:
    stall_s = 4.0
    search = new_own_search(stall_s=stall_s)
    begun = search.begin()
    search.hold_from(3)
    worker = search.start()
    search.wait_for_epochs(3)
    server.stop_at_once()
    search.let_go()
    wait_until(lambda: "database is unavailable" in worker.said(), "it is noticed")
    time.sleep(1.3 * stall_s)
    server.start()
    assert worker.end() == 0, worker.said()
    check(search, begun)


def test_a_trial_that_lasts_too_long_is_pruned_with_the_reason(new_search: NewSearch) -> None:
    pace = Pace(epoch_s=0.05)
    search = new_search(2, epochs=20, max_trial_s=0.25, pace=pace, pruner={"name": "none"})
    begun = search.begin()
    assert search.finish() == 0
    outcome = check(search, begun)
    for trial in outcome.trials:
        assert trial.state == TrialState.PRUNED
        assert trial.user_attrs["reason"].startswith("max_trial_s: ")
        assert " 0.25 " in trial.user_attrs["reason"]


@pytest.mark.parametrize(
    ("limits", "fails", "says"),
    [
        ({"max_failures": 3}, lambda number: number >= 2, "3 trials failed in a row"),
        ({"max_failures_total": 3}, lambda number: number % 2 == 1, "3 trials failed"),
    ],
)
def test_too_many_failures_end_the_search_of_all_workers(
    new_search: NewSearch, limits: dict[str, int], fails: Any, says: str
) -> None:
    def unlucky() -> None:
        original = Objective.run_trial

        def run(self: Objective, trial: Trial) -> object:
            def fail(*_: object) -> None:
                raise RuntimeError("no luck")

            SleepingRun.is_unlucky = fails(trial.number)
            return original(self, trial)

        train_epoch = SleepingRun.train_epoch

        def train(self: SleepingRun, on_batch: Any = None) -> object:
            if self.is_unlucky:
                raise RuntimeError("no luck")
            return train_epoch(self, on_batch)

        Objective.run_trial = run
        SleepingRun.train_epoch = train

    search = new_search(12, pruner={"name": "none"}, prepare=unlucky, **limits)
    search.begin()
    first = search.start()
    assert first.end() == 1
    assert says in first.said()
    assert "RuntimeError: no luck" in first.said()
    second = search.start()
    assert second.end() == 1
    assert says in second.said()
    assert states(search).count("FAIL") == 3
    search.begin()  # somebody begins it again: failures are counted anew
    assert search.start().end() == 1
    assert states(search).count("FAIL") == 6


def test_a_worker_takes_two_connections_at_most(new_search: NewSearch) -> None:
    search = new_search()
    begun = search.begin()
    search.hold_from(1)
    workers = [search.start() for _ in range(3)]
    engine = sqlalchemy.create_engine(search.url or "", poolclass=sqlalchemy.NullPool)
    count = sqlalchemy.text("""
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend'  -- the server's own vacuum is there, too
    """)
    most = 0
    with engine.connect() as connection:

        def look() -> int:
            nonlocal most
            found = int(connection.execute(count).scalar_one())
            connection.rollback()
            most = max(most, found)
            return found

        wait_until(lambda: look() >= 2 * len(workers), "each has its two")
        search.let_go()
        while any(worker.process.is_alive() for worker in workers):
            look()
            time.sleep(0.01)
    assert most == 2 * len(workers)
    check(search, begun)


def test_other_versions_and_other_data_are_refused_with_the_difference(
    new_search: NewSearch,
) -> None:
    def other_torch() -> None:
        real = search_record.version
        search_record.version = lambda name: "1.2.3" if name == "torch" else real(name)

    def other_engine() -> None:
        search_record.ENGINE_REVISION = 99

    def other_data() -> None:
        original = search_record.study_record

        def changed(*arguments: Any) -> Any:
            record = original(*arguments)
            record["data"]["fingerprint"] = "0" * 64
            return record

        search_plan.study_record = changed

    study = new_search(1)
    study.begin()
    for difference, says in (
        (other_torch, "1.2.3 here"),
        (other_engine, "99 here"),
        (other_data, "data.fingerprint: "),
    ):
        worker = study.start(difference)
        assert worker.end() == 2, worker.said()
        assert says in worker.said()
        assert "Traceback" not in worker.said()
    assert states(study) == []
    assert study.finish() == 0
