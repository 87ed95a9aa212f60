"""Confirms with one worker in the test's own process, so that a test can replace what it runs."""

from pathlib import Path
from typing import Any

import pytest

from canopy_search.search.config.settings import CanopyConfig, ConfirmSettings
from canopy_search.search.events import note_to
from canopy_search.search.scheduling.next_trial import SearchEnd
from canopy_search.search.study.plan import SearchPlan, start_study
from canopy_search.search.workers.loop import open_objective, work
from canopy_search.search.workflows import confirm as search_confirm
from canopy_search.search.workflows.confirm import ConfirmationEnd, ConfirmRequest, confirm
from canopy_search.search.workflows.run_study import Limits
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.training.data.dataset import Dataset
from tests.planned import requested
from tests.search.workers.one_worker import Witness

ONE_TWICE = ConfirmSettings(top=1, seeds=2)


def let_it_run_here(monkeypatch: pytest.MonkeyPatch) -> list[SearchPlan]:
    """Replaces the launcher and its processes; returns the plans that were run."""
    plans: list[SearchPlan] = []

    def run(
        plan: SearchPlan, database: Database, limits: Limits, screen: Any, dataset: Dataset
    ) -> SearchEnd:
        plans.append(plan)
        store = StudyStore(database)
        started = start_study(plan, store, dataset)
        store.launch(plan.study, plan.n_trials, plan.config.search.model_dump(mode="json"))
        store.close()
        retrier = plan.workspace.retrier(note_to(screen.emit))
        with open_objective(started, database, screen.emit, retrier) as objective:
            work(started.plan, objective, retrier)
        return SearchEnd.COMPLETE

    monkeypatch.setattr(search_confirm, "run_search", run)
    return plans


def confirm_here(
    database: Database,
    config: CanopyConfig,
    home: Path,
    asked: ConfirmSettings = ONE_TWICE,
    study: str = "planet",
) -> tuple[ConfirmationEnd, Witness]:
    """Confirms the finalists of a study as `let_it_run_here` has prepared it."""
    witness: Any = Witness()
    url = database.url.render_as_string(hide_password=False)
    request = requested(config, home, study, url)
    end = confirm(
        ConfirmRequest(request.workspace, request.configuration, study, asked, Limits(1)),
        database,
        witness,
    )
    return end, witness
