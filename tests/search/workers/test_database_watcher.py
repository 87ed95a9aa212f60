"""What the database says of a search, compared with what its worker emitted."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.events import BatchDone, EpochDone, Event, Note, TrialEnded, TrialStarted
from canopy_search.search.trial import stage_tree
from canopy_search.search.workers.database_watcher import DatabaseWatcher, WorkerEvent
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workspace import Workspace
from canopy_search.training.run import TrainingRun
from tests.planet_data import write_planet_data
from tests.search.workers import one_worker
from tests.search.workers.one_worker import Witness, hear_soon, search_here


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planet")
    write_planet_data(folder, images=60)
    return folder


def config(folder: Path, **search: Any) -> CanopyConfig:
    data = {"labels": folder / "train_classes.csv", "images": folder / "train-jpg", "image_px": 16}
    space = {"gamma": [0.8, 0.9], "loss": ["bce", "focal"]}
    return CanopyConfig.model_validate(
        {
            "data": data,
            "training": {"epochs": 3, "backbone": "tinycnn_8", "threads": 1},
            "search": {"space": space, **search},
        }
    )


class Watching(Witness):
    """Looks at the database at some events of the worker."""

    def __init__(self, look: Callable[[Event], None]) -> None:
        super().__init__()
        self._look = look

    def emit(self, event: Event) -> None:
        super().emit(event)
        self._look(event)


@pytest.fixture
def watched(database: Database, database_url: str, folder: Path) -> Iterator[Database]:
    with closing(Workspace(folder, database_url).open_existing()) as watched:
        yield watched


@pytest.fixture
def search(
    database: Database, watched: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Witness, list[WorkerEvent]]]:
    """Runs a search, looks at the database at some events, and returns what was found there."""

    def run(when: Callable[[Event], bool], trials: int, **settings: Any) -> Any:
        hear_soon(monkeypatch)
        found: list[WorkerEvent] = []

        def look(event: Event) -> None:
            if when(event):
                found.extend(watcher.poll())

        monkeypatch.setattr(one_worker, "Witness", lambda: Watching(look))
        StudyStore(database).open_study("planet")
        # As in a search, where the watcher is another process with a connection of its own.
        watcher = DatabaseWatcher(watched, "planet", 3)
        witness = search_here(database, config(folder, **settings), folder / "home", trials)
        found.extend(watcher.poll())
        return witness, found

    return run


def alike(event: Event) -> Event:
    """Leaves out what depends on the moment."""
    if isinstance(event, TrialEnded):
        return replace(event, settled=0, best=None, seconds=0.0)
    return event


def test_the_trials_of_a_whole_search_ended_as_the_worker_said(
    search: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    class FailsOnce(TrainingRun):
        def train_epoch(self, *arguments: Any) -> Any:
            made.append(1)
            if len(made) == 5:
                raise RuntimeError("out of luck")
            return super().train_epoch(*arguments)

    monkeypatch.setattr(stage_tree, "TrainingRun", FailsOnce)
    twice = [{"gamma": 0.8, "loss": "bce"}] * 2
    witness, found = search(lambda _event: False, 4, pruner={"name": "none"}, enqueue=twice)
    assert {worker for worker, _ in found} == {None}  # nobody looked while they ran
    by_number = sorted((alike(event) for _, event in found), key=lambda each: each.number)
    assert by_number == sorted(map(alike, witness.ends), key=lambda each: each.number)
    seconds = [event.seconds for _, event in found]
    assert seconds == pytest.approx([end.seconds for end in witness.ends])
    states = [end.state for end in witness.ends]
    assert states.count(TrialState.FAIL) == 1
    assert any(end.shared_prefix is not None for end in witness.ends)
    assert [(event.settled, event.best) for _, event in found] == [
        (end.settled, end.best) for end in witness.ends
    ]


def test_a_worker_is_followed_from_trial_to_trial(search: Any, database: Database) -> None:
    def when(event: Event) -> bool:
        is_batch = isinstance(event, BatchDone) and event.epoch > 1 and event.done == 1
        return isinstance(event, TrialStarted | TrialEnded) or is_batch

    witness, found = search(when, 3, pruner={"name": "none"}, seed=3)
    [worker] = StudyStore(database).workers("planet")
    assert {worker_id for worker_id, _ in found} == {worker.id}
    started = [event for _, event in found if isinstance(event, TrialStarted)]
    assert [(event.number, event.params, event.from_epoch) for event in started] == [
        (event.number, event.params, event.from_epoch)
        for event in witness.events
        if isinstance(event, TrialStarted)
    ]
    ended = [event for _, event in found if isinstance(event, TrialEnded)]
    assert list(map(alike, ended)) == list(map(alike, witness.ends))
    assert [event.settled for event in ended] == [event.settled for event in witness.ends]
    assert [event.best for event in ended] == [event.best for event in witness.ends]
    epochs = [event for _, event in found if isinstance(event, EpochDone)]
    assert epochs
    assert set(epochs) <= set(witness.epochs)


def test_a_paused_trial_ends_once_for_each_pause_and_not_when_the_search_is_over(
    search: Any,
) -> None:
    asha = {"name": "asha", "min_epochs": 1, "reduction_factor": 2}
    witness, found = search(lambda event: isinstance(event, TrialEnded), 4, pruner=asha)
    assert TrialState.RUNNING in {end.state for end in witness.ends}
    ended = [event for _, event in found if isinstance(event, TrialEnded)]
    assert list(map(alike, ended)) == list(map(alike, witness.ends))
    marked = [note for note in witness.notes if "marked pruned" in note]
    assert [event.text for _, event in found if isinstance(event, Note)] == marked
    assert marked


def test_what_was_there_before_is_no_event(database: Database, folder: Path) -> None:
    search_here(database, config(folder, pruner={"name": "none"}), folder / "home", 1)
    watcher = DatabaseWatcher(database, "planet", 3)
    assert watcher.poll() == []
    search_here(database, config(folder, pruner={"name": "none"}), folder / "home", 2)
    [(_, event)] = watcher.poll()
    assert isinstance(event, TrialEnded)
    assert event.number == 1


def test_a_database_that_is_unavailable_is_said_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    StudyStore(database).open_study("planet")
    watcher = DatabaseWatcher(database, "planet", 3)
    is_away = [True, True, False, True]

    def workers(store: StudyStore, name: str) -> list[Any]:
        if is_away.pop(0):
            raise OperationalError("SELECT", {}, Exception("no answer"))
        return []

    monkeypatch.setattr(StudyStore, "workers", workers)
    looks = [watcher.poll() for _ in range(4)]
    assert [len(look) for look in looks] == [1, 0, 0, 1]
    assert isinstance(looks[0][0][1], Note)
