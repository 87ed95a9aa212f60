"""One worker in the test's own process, so that a test can replace parts of it."""

from pathlib import Path

import pytest

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.events import EpochDone, Event, Note, TrialEnded, note_to
from canopy_search.search.study.plan import start_study
from canopy_search.search.study.preflight import check_networks, open_data
from canopy_search.search.workers.loop import open_objective, work
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.session import WorkerSession
from tests.planned import planned


class Witness:
    """Records the events of a search."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    @property
    def ends(self) -> list[TrialEnded]:
        return [event for event in self.events if isinstance(event, TrialEnded)]

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]

    @property
    def epochs(self) -> list[EpochDone]:
        return [event for event in self.events if isinstance(event, EpochDone)]


def hear_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets workers notice a control word at once."""
    options = WorkerSession.__init__.__kwdefaults__
    monkeypatch.setitem(options, "beat_s", 0.1)


def search_here(
    database: Database, config: CanopyConfig, home: Path, trials: int, study: str = "planet"
) -> Witness:
    """Starts or resumes a study, and runs its trials in this process."""
    witness = Witness()
    plan = planned(config, home, study, trials)
    dataset = open_data(config.data, home, witness.emit)
    check_networks(plan.space, dataset)
    store = StudyStore(database)
    started = start_study(plan, store, dataset)
    store.launch(study, trials, config.search.model_dump(mode="json"))
    store.close()
    retrier = plan.workspace.retrier(note_to(witness.emit))
    with open_objective(started, database, witness.emit, retrier) as objective:
        work(started.plan, objective, retrier)
    return witness
