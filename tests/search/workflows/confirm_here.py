"""Confirms with one worker in the test's own process, so that a test can replace what it runs."""

from pathlib import Path
from typing import Any

import pytest

from canopy_search.search.config.settings import CanopyConfig, ConfirmSettings
from canopy_search.search.events import note_to
from canopy_search.search.study.plan import SearchPlan, join_study, start_study
from canopy_search.search.workers.loop import open_objective, work
from canopy_search.search.workflows import confirm as search_confirm
from canopy_search.search.workflows.confirm import ConfirmationEnd, confirm
from canopy_search.search.workflows.run_study import Limits, SearchEnd
from canopy_search.storage.connection.retry import RetryPolicy
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.training.data.dataset import Dataset
from tests.search.workers.one_worker import Witness


def let_it_run_here(monkeypatch: pytest.MonkeyPatch) -> list[SearchPlan]:
    """Replaces the launcher and its processes; returns the plans that were run."""
    plans: list[SearchPlan] = []

    def run(  # noqa: PLR0917 - as run_search
        plan: SearchPlan,
        database: Database,
        url: str | None,
        limits: Limits,
        screen: Any,
        dataset: Dataset,
    ) -> SearchEnd:
        plans.append(plan)
        store = StudyStore(database)
        start_study(plan, store, dataset)
        store.launch(plan.study, plan.n_trials, plan.config.search.model_dump(mode="json"))
        started = join_study(plan, store, dataset)
        store.close()
        retry_policy = RetryPolicy(plan.retry_for_s, note=note_to(screen.emit))
        with open_objective(started, database, screen.emit, retry_policy) as objective:
            work(plan, objective, retry_policy)
        return SearchEnd.COMPLETE

    monkeypatch.setattr(search_confirm, "run_search", run)
    return plans


def confirm_here(
    database: Database,
    config: CanopyConfig,
    home: Path,
    *,
    study: str = "planet",
    top: int = 1,
    seeds: int = 2,
) -> tuple[ConfirmationEnd, Witness]:
    """Confirms the finalists of a study as `let_it_run_here` has prepared it."""
    witness: Any = Witness()
    asked = ConfirmSettings(top=top, seeds=seeds)
    url = database.url.render_as_string(hide_password=False)
    limits = Limits(1)
    end = confirm(config, home, database, url, study, asked, limits, witness, retry_for_s=60)
    return end, witness
