"""One worker in the test's own process, so that a test can replace parts of it."""

from pathlib import Path
from typing import Any

import pytest

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.events import TrialEnd
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
        self.ends: list[TrialEnd] = []
        self.notes: list[str] = []
        self.epochs: list[tuple[Any, ...]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trial_ended(self, end: TrialEnd, finished: int, best: float | None) -> None:
        self.ends.append(end)

    def epoch_done(self, *values: Any) -> None:
        self.epochs.append(values)

    def __getattr__(self, name: str) -> Any:
        return lambda *values: None


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
    dataset = open_data(config.data, home, witness)
    check_networks(plan.space, dataset)
    store = StudyStore(database)
    started = start_study(plan, store, dataset)
    store.launch(study, trials, config.search.model_dump(mode="json"))
    store.close()
    retrier = plan.workspace.retrier(witness.note)
    with open_objective(started, database, witness, retrier) as objective:
        work(started.plan, objective, retrier)
    return witness
