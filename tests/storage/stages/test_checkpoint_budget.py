import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from optuna.trial import TrialState
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.database import Database
from canopy_search.storage.errors import CheckpointBudgetError
from canopy_search.storage.stages.checkpoint_files import CheckpointFiles
from canopy_search.storage.stages.checkpoints import LARGEST_DEFAULT_BYTES
from canopy_search.storage.stages.eviction_order import EvictionPriority
from canopy_search.storage.stages.stages import StageStore
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.registry import remove_dead_workers
from canopy_search.storage.workers.session import worker_session
from tests.storage.stages.checkpoint_tools import Opener, chain, path_of, set_worker, worths


def test_worth(opened: Opener, stages: StageStore, database: Database) -> None:
    store, studies = opened(), StudyStore(database)
    worker = store._worker
    study = studies.open_study("planet")
    running, paused, pruned = (study.ask()._trial_id for _ in range(3))
    set_worker(database, running, worker)
    set_worker(database, paused, None)
    chain(stages, "trunk", "x2", "x3", trial_id=running)
    chain(stages, "trunk", "y2", "y3", trial_id=paused)
    chain(stages, "trunk", "z2", "z3", "z4", trial_id=pruned)
    chain(stages, "u1", "fork", "v3")
    chain(stages, "u1", "fork", "w3")
    study.tell(2, state=TrialState.PRUNED)
    for key in ("trunk", "x2", "x3", "y2", "y3", "z2", "z3", "fork"):
        store.write(key, b"state", is_end=False)
    store.write("w3", b"state", is_end=True)

    assert worths(store) == {
        "x2": EvictionPriority.SUPERSEDED,
        "y2": EvictionPriority.SUPERSEDED,
        "z2": EvictionPriority.SUPERSEDED,
        "w3": EvictionPriority.END,
        "z3": EvictionPriority.TIP,
        "y3": EvictionPriority.PAUSED,
        "trunk": EvictionPriority.SHARED_PREFIX,
        "fork": EvictionPriority.SHARED_PREFIX,
        "x3": EvictionPriority.RUNNING,
    }
    # The one that goes first comes first.
    assert [entry.priority for entry in store.entries()] == sorted(worths(store).values())


def test_a_running_trial_without_its_latest_checkpoint_stands_on_the_one_before(
    opened: Opener, stages: StageStore, database: Database
) -> None:
    store, studies = opened(), StudyStore(database)
    trial_id = studies.open_study("planet").ask()._trial_id
    set_worker(database, trial_id, store._worker)
    chain(stages, "x1", "x2", "x3", trial_id=trial_id)
    store.write("x1", b"state", is_end=False)
    store.write("x2", b"state", is_end=False)
    assert worths(store)["x2"] == EvictionPriority.RUNNING
    store.write("x3", b"state", is_end=False)
    assert worths(store)["x2"] == EvictionPriority.SUPERSEDED


def test_the_budget_holds_and_the_least_used_goes_first(
    opened: Opener, stages: StageStore, folder: Path
) -> None:
    store = opened(35)
    for key in ("a", "b", "c", "d"):
        chain(stages, f"{key}1", key)
    for key in ("a", "b", "c"):
        store.write(key, b"ten bytes.", is_end=False)
    store.read("a")
    store.write("d", b"ten bytes.", is_end=False)
    assert set(worths(store)) == {"c", "a", "d"}
    assert sum(path.stat().st_size for path in folder.glob("*/*.pt")) == 30


def test_what_is_worth_more_stays(opened: Opener, stages: StageStore) -> None:
    store = opened(25)
    chain(stages, "a1", "a2")
    chain(stages, "b1", "b2")
    store.write("a2", b"ten bytes.", is_end=False)
    store.write("b1", b"ten bytes.", is_end=False)
    with pytest.raises(CheckpointBudgetError):
        store.write("b2", b"ten bytes.", is_end=True)
    assert set(worths(store)) == {"a2", "b1"}
    store.write("a1", b"ten bytes.", is_end=False)
    assert set(worths(store)) == {"a1", "b1"}


def test_what_never_fits_drives_nothing_out(opened: Opener, words: SnapshotAssertion) -> None:
    store = opened(25)
    store.write("a", b"ten bytes.", is_end=False)
    with pytest.raises(CheckpointBudgetError) as error:
        store.write("b", 26 * b".", is_end=False)
    assert str(error.value) == words
    assert set(worths(store)) == {"a"}


def test_writing_again_counts_once(opened: Opener) -> None:
    store = opened(25)
    for _ in range(5):
        store.write("a", 20 * b".", is_end=False)
    assert store.stored_bytes() == 20


def test_the_budget_holds_while_many_write(
    opened: Opener, folder: Path, database: Database
) -> None:
    budget, size = 95, 10
    stores = [opened(budget) for _ in range(4)]
    largest = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal largest
        while not ended.is_set():
            sizes = []
            for path in folder.glob("*/*.pt*"):
                try:
                    sizes.append(path.stat().st_size)
                except FileNotFoundError:
                    continue
            time.sleep(0.002)
            largest = max(largest, sum(sizes))

    def write_all(worker: int) -> None:
        for index in range(25):
            stores[worker].write(f"w{worker}-{index}", size * b".", is_end=False)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write_all, range(4)))
    finally:
        ended.set()
        watcher.join()
    assert 0 < largest <= budget
    assert 60 <= opened().stored_bytes() <= budget


def test_what_an_interrupted_trial_stands_on_can_go_but_goes_late(
    opened: Opener, stages: StageStore, database: Database
) -> None:
    store, studies = opened(), StudyStore(database)
    trial_id = studies.open_study("planet").ask()._trial_id
    with worker_session(database.url) as session:
        set_worker(database, trial_id, session.worker)
        chain(stages, "x1", "x2", trial_id=trial_id)
        store.write("x2", b"state", is_end=False)
        assert worths(store) == {"x2": EvictionPriority.RUNNING}
        assert store.collect(0).evicted == 0
    assert worths(store) == {"x2": EvictionPriority.PAUSED}
    assert store.collect(0).evicted == 1


def test_a_checkpoint_that_comes_during_a_collection_stays(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = opened(), opened()
    store.write("old", b"state", is_end=False)
    real = CheckpointFiles.names

    def names(self: CheckpointFiles) -> dict[str, int]:
        found = real(self)
        other.write("new", b"state", is_end=False)
        other.write("old", b"longer state", is_end=False)
        return found

    monkeypatch.setattr(CheckpointFiles, "names", names)
    store.collect()
    assert store.read("new") == b"state"
    assert store.read("old") == b"longer state"


def test_what_crashes_leave_behind_is_collected(opened: Opener, folder: Path) -> None:
    store = opened()
    for key in ("good", "gone", "short"):
        store.write(key, b"state", is_end=False)
    path_of(folder, "gone").unlink()
    path_of(folder, "short").write_bytes(b"s")
    place = path_of(folder, "good").parent
    (place / "orphan.pt").write_bytes(b"1234")
    (place / "good.pt.1234abcd.part").write_bytes(b"12")

    counted = store.collect(dry_run=True)
    assert set(worths(store)) == {"good", "gone", "short"}
    found = store.collect()

    assert counted == found
    assert (found.orphans, found.lost, found.evicted, found.freed_bytes) == (2, 2, 0, 7)
    assert {path.name for path in place.iterdir()} == {"good.pt", "canopy-checkpoints.json"}
    assert set(worths(store)) == {"good"}
    assert store.collect().freed_bytes == 0


def test_a_smaller_budget_is_collected_to(opened: Opener) -> None:
    store = opened()
    for key in ("a", "b", "c"):
        store.write(key, b"ten bytes.", is_end=False)
    assert store.collect(15).evicted == 2
    assert set(worths(store)) == {"c"}


def test_a_file_that_is_being_written_is_no_orphan(
    opened: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = opened()
    real = CheckpointFiles.write
    found = []

    def collect_meanwhile(self: CheckpointFiles, key: str, content: bytes) -> None:
        real(self, key, content)
        (path_of(folder, "a").parent / "a.pt.1234abcd.part").write_bytes(b"12")
        found.append(other.collect())

    monkeypatch.setattr(CheckpointFiles, "write", collect_meanwhile)
    store = opened()
    store.write("a", b"state", is_end=False)
    assert (found[0].orphans, found[0].lost) == (0, 0)
    assert store.read("a") == b"state"


def test_the_default_budget_is_a_part_of_the_free_disk(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CheckpointFiles, "free_bytes", lambda self: 1000)
    store = opened()
    assert store.budget_bytes == 250
    store.write("a", 40 * b".", is_end=False)
    assert opened().budget_bytes == 290
    monkeypatch.setattr(CheckpointFiles, "free_bytes", lambda self: 10**15)
    assert opened().budget_bytes == LARGEST_DEFAULT_BYTES
    monkeypatch.setattr(CheckpointFiles, "free_bytes", lambda self: None)
    assert opened().budget_bytes == LARGEST_DEFAULT_BYTES


_WRITER = """
import os, sys
from pathlib import Path
from canopy_search.storage.stages.checkpoint_files import CheckpointFiles
from canopy_search.storage.stages.checkpoints import CheckpointStore
from canopy_search.storage.workspace import Workspace
from canopy_search.storage.workers.session import worker_session

url, folder, when = sys.argv[1:]
database = Workspace(Path(folder), url).open()
real = CheckpointFiles.write

def die(files, key, content):
    if when == "after":
        real(files, key, content)
    else:
        files._place.write(files._name(key) + ".pt.1234abcd.part", content)
    os.kill(os.getpid(), 9)

CheckpointFiles.write = die
with worker_session(database.url) as session:
    files = CheckpointFiles(folder, database.read_id())
    CheckpointStore(database, files, session.worker).write("a", b"state", is_end=False)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_between_the_file_and_its_record(
    opened: Opener, database: Database, folder: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.write("good", b"state", is_end=False)
    url = database.url.render_as_string(hide_password=False)
    killed = subprocess.run([sys.executable, "-c", _WRITER, url, str(folder), when], check=False)
    assert killed.returncode == -9
    assert len(list(folder.glob("*/a.pt*"))) == 1

    monkeypatch.setattr("canopy_search.storage.workers.registry.GONE_S", 0.0)
    monkeypatch.setattr("canopy_search.storage.workers.registry.RECOVERY_S", 0.0)
    while store.find(["a"]):
        time.sleep(0.02)  # until the server sees that the process is gone
        with database.engine.begin() as connection:
            remove_dead_workers(connection, 0)
    assert store.find(["a", "good"]) == {"good": True}
    store.collect()

    assert [path.name for path in folder.glob("*/*.p*")] == ["good.pt"]
    assert set(worths(store)) == {"good"}
