"""The main job: begins a study or goes on with one, and lets workers search it."""

import time
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

from optuna.trial import TrialState

from search.budget import finished_count, is_on_plateau
from search.launcher import Launcher
from search.mirroring import mirroring
from search.plan import SearchPlan, begin_study
from search.preparation import check_networks, open_data
from search.screen import SearchScreen
from search.slots import device_slots
from search.worker import best_ap
from storage.control import PAUSE, RUN
from storage.database import Database
from storage.outages import Patience
from storage.studies import StudyStore
from training.data.dataset import Dataset


class SearchEnd(Enum):
    """Why a search is over."""

    COMPLETE = "the study has all its trials"
    TIME_UP = "the time is up; the same command goes on"
    STOPPED = "somebody stopped the study; the same command begins it again"
    PLATEAU = "the last trials were no better than the best one before them (search.stop_when)"
    EXHAUSTED = "the grid has no more points"


@dataclass(frozen=True)
class Limits:
    """What bounds a search besides its trials.

    Attributes:
        workers: on this machine.
        hours: after which it stops; None for no limit.
    """

    workers: int | Literal["auto"] = "auto"
    hours: float | None = None


def run_search(  # noqa: PLR0917 - what a search needs
    plan: SearchPlan,
    database: Database,
    url: str | None,
    limits: Limits,
    screen: SearchScreen,
    dataset: Dataset | None = None,
) -> SearchEnd:
    """Searches until the study has `plan.n_trials` finished trials, or a limit is reached.

    Args:
        plan: what to do.
        database: opened and migrated.
        url: of the database, for the workers; None for the embedded one.
        limits: what bounds the search besides.
        screen: shows what happens.
        dataset: the images and labels, where they are open already.

    Raises:
        StudyDiffersError: the study began with other data or other fixed settings.
        SearchFailedError: too many trials failed, or workers die again and again.
        DatabaseAwayError: the database was away for too long.
        KeyboardInterrupt: somebody wants to stop; no worker is left.
    """
    deadline_s = None if limits.hours is None else time.monotonic() + 3600 * limits.hours
    search = plan.config.search
    slots = device_slots(plan.config.training.device, limits.workers, search.slots_per_gpu)
    if dataset is None:
        dataset = open_data(plan.config.data, plan.home, screen)
    check_networks(plan.space, dataset)
    store = StudyStore(database)
    plan = replace(plan, workers=len(slots))
    begin_study(plan, store, dataset)
    store.launch(plan.study, plan.n_trials, search.model_dump(mode="json"))
    with mirroring(plan, url, store, screen.note) as look_at_mirror:
        launcher = Launcher(plan, url, slots, screen, deadline_s, beside=look_at_mirror)
        return _let_workers_search(plan, database, store, launcher)


def _let_workers_search(
    plan: SearchPlan, database: Database, store: StudyStore, launcher: Launcher
) -> SearchEnd:
    screen, slots = launcher.screen, launcher.slots
    study = store.load_study(plan.study)
    finished = finished_count(study)
    screen.search_started(plan.study, finished, plan.n_trials, best_ap(study))
    if finished >= plan.n_trials and not study.get_trials(
        deepcopy=False, states=(TrialState.RUNNING,)
    ):
        return SearchEnd.COMPLETE
    if store.control(plan.study) == PAUSE:
        screen.note("the study pauses; it goes on with: canopy resume")
    if len(slots) > 1:
        devices = ", ".join(dict.fromkeys(slot.name for slot in slots))
        screen.note(f"{len(slots)} workers on {devices}")
    store.close()
    database.close()  # the workers have their own connections
    if not launcher.run():
        return SearchEnd.TIME_UP
    patience = Patience(plan.patience_s, revive=database.revive, note=screen.note)
    return patience.call(lambda: _end_of(plan, store))


def _end_of(plan: SearchPlan, store: StudyStore) -> SearchEnd:
    study = store.load_study(plan.study)
    if finished_count(study) >= plan.n_trials:
        return SearchEnd.COMPLETE
    if store.control(plan.study) != RUN:
        return SearchEnd.STOPPED
    if is_on_plateau(
        study.get_trials(deepcopy=False), plan.config.search.stop_when.no_improvement_trials
    ):
        return SearchEnd.PLATEAU
    return SearchEnd.EXHAUSTED
