"""The main job: starts or resumes a study, and lets workers search it."""

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

from optuna.trial import TrialState

from canopy_search.dashboards.formatting.values import paused_text
from canopy_search.search.events import Note, SearchStarted, note_to
from canopy_search.search.progress_display import SearchScreen
from canopy_search.search.scheduling.next_trial import SearchEnd, Wanted, finished_count, search_end
from canopy_search.search.scheduling.open_study import best_ap
from canopy_search.search.study.plan import SearchPlan, as_started, create_study, start_study
from canopy_search.search.study.preflight import check_networks, open_data, weights_fits
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.workers.backend import Backend, Placement
from canopy_search.search.workers.database_watcher import DatabaseWatcher
from canopy_search.search.workers.device_slots import device_slots
from canopy_search.search.workers.launcher import Launcher
from canopy_search.search.workers.local_backend import LocalBackend
from canopy_search.search.workers.logs import log_folder
from canopy_search.search.workflows.mirror.background import mirroring
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.control import PAUSE
from canopy_search.training.data.dataset import Dataset


@dataclass(frozen=True)
class Limits:
    """Limits of a search other than its number of trials.

    Attributes:
        workers: number of workers on this machine.
        hours: time after which the search stops, in hours; None for no limit.
        elsewhere: the backend that places the workers on other machines; None for this one.
    """

    workers: int | Literal["auto"] = "auto"
    hours: float | None = None
    elsewhere: Placement | None = None


@dataclass(frozen=True)
class SearchRequest(StudyRequest):
    """A requested search.

    Attributes:
        n_trials: total of finished trials of the study.
        limits: workers, time limit and backend.
    """

    n_trials: int
    limits: Limits


def run_search(
    plan: SearchPlan,
    database: Database,
    limits: Limits,
    screen: SearchScreen,
    dataset: Dataset | None = None,
) -> SearchEnd:
    """Searches until the study has `plan.n_trials` finished trials, or a limit is reached.

    Args:
        plan: plan of the search.
        database: opened and migrated.
        limits: workers, time limit and backend.
        screen: shows the progress.
        dataset: the images and labels, if they are already open. Workers on other machines open
            their own, and start the study.

    Raises:
        StudyDiffersError: the study was started with other data or other fixed settings.
        PlacementError: the backend cannot be used.
        SearchFailedError: too many trials failed, or workers died repeatedly.
        DatabaseUnavailableError: the database was unavailable for too long.
        KeyboardInterrupt: the user stopped the search; no worker is left.
    """
    deadline_s = None if limits.hours is None else time.monotonic() + 3600 * limits.hours
    store = StudyStore(database)
    if plan.study in store.names():
        plan = as_started(plan, store.read_record(plan.study))
    backend: Backend
    if limits.elsewhere is None:
        backend = _start_locally(plan, store, limits, screen, dataset)
    else:
        create_study(plan, store)
        backend = limits.elsewhere.open(plan, note_to(screen.emit))
    with closing(backend):
        store.launch(plan.study, plan.n_trials, plan.config.search.model_dump(mode="json"))
        with mirroring(plan, store, note_to(screen.emit)) as update_mirror:
            logs = log_folder(plan.workspace.home, plan.study)
            watcher = None
            if limits.elsewhere is not None:
                watcher = DatabaseWatcher(database, plan.study, plan.config.training.epochs)
            launcher = Launcher(backend, logs, screen, deadline_s, update_mirror, watcher)
            return _let_workers_search(plan, database, store, screen, launcher)


def _start_locally(
    plan: SearchPlan,
    store: StudyStore,
    limits: Limits,
    screen: SearchScreen,
    dataset: Dataset | None,
) -> LocalBackend:
    """Starts the study with this machine's data, and one worker per slot of this machine."""
    search = plan.config.search
    slots = device_slots(plan.config.training.device, limits.workers, search.slots_per_gpu)
    if dataset is None:
        dataset = open_data(plan.config.data, plan.workspace.home, screen.emit)
    check_networks(plan.space, dataset)
    for fit in weights_fits(plan.space, dataset.facts).values():
        screen.emit(Note(str(fit)))
    started = start_study(replace(plan, workers=len(slots)), store, dataset)
    return LocalBackend(started.plan, slots)


def _let_workers_search(
    plan: SearchPlan,
    database: Database,
    store: StudyStore,
    screen: SearchScreen,
    launcher: Launcher,
) -> SearchEnd:
    trials = store.trials(plan.study)
    finished = finished_count(trials)
    screen.emit(SearchStarted(plan.study, finished, plan.n_trials, best_ap(trials)))
    is_running = any(trial.state == TrialState.RUNNING for trial in trials)
    if finished >= plan.n_trials and not is_running:
        return SearchEnd.COMPLETE
    if store.control(plan.study) == PAUSE:
        screen.emit(Note(paused_text(plan.study)))
    slots = launcher.backend.slots()
    if len(slots) > 1 and launcher.backend.one_machine:
        devices = ", ".join(dict.fromkeys(slot.device for slot in slots))
        screen.emit(Note(f"{len(slots)} workers on {devices}"))
    store.close()
    database.close()  # the workers have their own connections
    if not launcher.run():
        return SearchEnd.TIME_UP
    return plan.workspace.retrier(note_to(screen.emit)).call(lambda: _end_of(plan, store))


def _end_of(plan: SearchPlan, store: StudyStore) -> SearchEnd:
    wanted = Wanted(plan.n_trials, store.target(plan.study), store.control(plan.study))
    return search_end(store.trials(plan.study), wanted, plan.config.search)
