"""What `canopy status` says of a study that is over, and of one that somebody works on."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from optuna.trial import TrialState
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import REASON_ATTR
from canopy_search.storage.workers.session import WorkerSession
from tests.integration.in_process import InProcess
from tests.shared_servers import execute


@pytest.fixture
def user(tmp_path: Path, database_url: str) -> InProcess:
    return InProcess(tmp_path, database_url)


@pytest.fixture
def store(database: Database) -> Iterator[StudyStore]:
    """Has a study of one pruned, one failed and one running trial, which wants one."""
    store = StudyStore(database)
    study = store.open_study("planet")
    store.write_record("planet", {})
    store.launch("planet", 1, {})
    study.tell(study.ask(), state=TrialState.PRUNED)
    failed = study.ask()
    failed.set_user_attr(REASON_ATTR, "OSError: the disk is full")
    study.tell(failed, state=TrialState.FAIL)
    study.ask()
    # A worker had taken it.
    execute(database.url, "INSERT INTO canopy_trial (trial_id) SELECT trial_id FROM trials")
    yield store
    store.close()


def test_json_tells_of_workers_and_of_what_went_wrong(
    store: StudyStore, database: Database, user: InProcess
) -> None:
    with closing(working(store, database)):
        status = user.json("status", "--study", "planet")
    assert (status["control"], status["target"]) == ("run", 1)
    (failure,) = status["failures"]
    assert failure == {"number": 1, "state": "FAIL", "reason": "OSError: the disk is full"}
    counts = status["trials"]
    assert (counts["finished"], counts["interrupted"], counts["running"]) == (1, 1, 0)
    (worker,) = status["workers"]
    assert (worker["host"], worker["pid"]) == (socket.gethostname(), os.getpid())
    assert (worker["slot"], worker["living"], worker["end_reason"]) == ("cuda:0", True, None)
    assert worker["doing"]["epochs"] == 8


def test_watching_a_study_that_is_over_ends_by_itself(
    store: StudyStore, database: Database, user: InProcess, words: SnapshotAssertion
) -> None:
    working(store, database).close()
    watched = user.run("status", "--study", "planet", "--watch", "--every", "0.1")
    lines = watched.stdout.splitlines()
    assert len(lines) == 4
    assert "trial 2" in lines[2]
    assert "trial 1 failed: OSError: the disk is full" in lines[3]
    assert [lines[0][9:], *lines[2:]] == words  # begins with the time of day


def test_a_screen_is_not_for_programs(user: InProcess) -> None:
    refused = user.run("status", "--watch", "--json", status=2)
    assert refused.stderr.startswith("canopy: --watch ")


def working(store: StudyStore, database: Database) -> WorkerSession:
    study_id = store.study_id("planet")
    session = WorkerSession(database.url, study_id=study_id, slot="cuda:0")
    session.set_progress({"trial": 3, "epoch": 1, "epochs": 8, "batch": 1, "batches": 2})
    session.register()
    session.start()
    return session
