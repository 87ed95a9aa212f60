"""The main job: one worker searches one study until it has its trials."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from search.budget import claim_trial, end_paused, enqueue_once, finished_count, settled_count
from search.errors import SearchFailedError, StudyDiffersError
from search.events import SearchWatcher, TrialEnd
from search.objective import Objective
from search.open_tree import check_place, open_tree
from search.preparation import check_networks, choices, open_data
from search.record import Record, check_same_study, resolved_as_before, study_record
from search.sampling import build_pruner, build_sampler, check_sampling, grid
from search.settings import CanopyConfig
from search.space import SearchSpace, parse_space, with_params
from search.trials import OpenStudy
from storage.database import Database
from storage.locks import StudyLock
from storage.studies import StudyStore
from training.backbones import check_backbone, check_weights
from training.data.dataset import Dataset
from training.errors import UnknownNameError
from training.losses import check_loss
from training.optimizers import check_optimizer
from training.resolve import resolve_settings
from training.settings import TrainingSettings

OBJECTIVE = "val_ap"  # what optuna-dashboard calls the value of a trial


@dataclass(frozen=True)
class SearchPlan:
    """What a search is asked for, checked as far as it can be without data and database.

    Attributes:
        config: the whole configuration.
        space: its search space.
        home: the state folder.
        study: name of the study.
        n_trials: total of finished trials of the study.
    """

    config: CanopyConfig
    space: SearchSpace
    home: Path
    study: str
    n_trials: int


def plan_search(config: CanopyConfig, home: Path, study: str, n_trials: int) -> SearchPlan:
    """Checks a search and returns what will be done.

    Raises:
        SearchError: space, sampler or pruner cannot be used.
        TrainingError: a backbone, loss or optimizer does not exist, or the device is not there.
        CheckpointPlaceError: checkpoints cannot lie where they are said to.
    """
    space = parse_space(config.search, config.training)
    checks = {"backbone": check_backbone, "loss": check_loss, "optimizer.name": check_optimizer}
    for name, check in checks.items():
        for choice in choices(space, name):
            try:
                check(choice)
            except UnknownNameError as error:
                key = f"search.space.{name}" if name in space.distributions else f"training.{name}"
                raise UnknownNameError(f"{key}: {error}") from error
    for backbone, weights in product(choices(space, "backbone"), choices(space, "weights")):
        check_weights(backbone, weights)
    for device, precision in product(choices(space, "device"), choices(space, "precision")):
        resolve_settings(with_params(space.training, {"device": device, "precision": precision}))
    check_sampling(config.search, space, config.training.epochs)
    check_place(config.stages, home)
    return SearchPlan(config, space, home, study, n_trials)


def run_search(plan: SearchPlan, database: Database, watcher: SearchWatcher) -> int:
    """Runs trials until the study has `plan.n_trials` finished ones.

    Args:
        plan: what to do.
        database: opened and migrated.
        watcher: is told what happens.

    Returns:
        The number of finished trials of the study.

    Raises:
        StudyBusyError: another process searches in this study.
        StudyDiffersError: the study began with other data or other fixed settings.
        SearchFailedError: too many trials failed in a row.
    """
    with open_search(plan, database, watcher) as (objective, lock):
        study = objective.opened.study
        watcher.search_started(plan.study, finished_count(study), plan.n_trials, best_ap(study))
        _run_trials(plan, objective, lock)
        return finished_count(study)


@contextmanager
def open_search(
    plan: SearchPlan, database: Database, watcher: SearchWatcher
) -> Iterator[tuple[Objective, StudyLock]]:
    """Opens or begins a study for this process alone, with its data and the stage tree.

    Raises:
        StudyBusyError: another process searches in this study.
        StudyDiffersError: the study began with other data or other fixed settings.
    """
    store = StudyStore(database)
    with store.lock_study(plan.study) as lock:
        dataset = open_data(plan.config.data, plan.home, watcher)
        check_networks(plan.space, dataset)
        study, space = _open_study(plan, store, dataset)
        with open_tree(
            plan.config.stages,
            plan.home,
            database,
            lock.worker,
            dataset,
            check=lock.check,
            note=watcher.note,
        ) as tree:
            objective = Objective(
                OpenStudy(study, store.optuna_storage),
                study.pruner,
                plan.config.search.pruner.name,
                store,
                tree,
                plan.config.stages.enabled,
                lock.worker,
                space,
                watcher,
            )
            yield objective, lock


def best_ap(study: optuna.Study) -> float | None:
    """Returns the best validation AP of the study's complete trials."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max((trial.value for trial in complete if trial.value is not None), default=None)


def _open_study(
    plan: SearchPlan, store: StudyStore, dataset: Dataset
) -> tuple[optuna.Study, SearchSpace]:
    """Opens the study, or begins it; its space holds what ``auto`` meant when it began."""
    config = plan.config
    study = store.open_study(
        plan.study,
        sampler=build_sampler(config.search.sampler, plan.space, config.search.seed, 0),
        pruner=build_pruner(config.search.pruner, config.training.epochs),
    )
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([OBJECTIVE])
    training, now = compare_with_study(plan, store, study, dataset)
    # Another process may have begun it since.
    check_same_study(plan.study, store.write_record(plan.study, now), now)
    enqueue_once(study, config.search.enqueue)
    return study, SearchSpace(training, plan.space.distributions)


def compare_with_study(
    plan: SearchPlan, store: StudyStore, study: optuna.Study, dataset: Dataset
) -> tuple[TrainingSettings, Record]:
    """Checks that a study can go on as it is asked for; changes nothing.

    Returns:
        The fixed settings with every ``auto`` as it was when the study began, and what describes
        the study as it is asked for now.

    Raises:
        StudyDiffersError: it began with other data or other fixed settings, or not with Canopy.
    """
    training = plan.config.training
    before = store.read_record(plan.study)
    if before is None and study.get_trials(deepcopy=False):
        raise StudyDiffersError(
            f"study {plan.study!r} has trials and was not begun by Canopy; choose another name "
            "with --study"
        )
    if before is not None:
        training = resolved_as_before(training, before)
    training = resolve_settings(training)
    now = study_record(plan.config, plan.space, training, dataset)
    if before is not None:
        check_same_study(plan.study, before, now)
    return training, now


def _run_trials(plan: SearchPlan, objective: Objective, lock: StudyLock) -> None:
    opened, search = objective.opened, plan.config.search
    study = opened.study
    failed_in_a_row: list[TrialEnd] = []
    while True:
        lock.check()
        # Made anew with the number that a new trial would get.
        next_number = len(opened.trials())
        study.sampler = build_sampler(search.sampler, objective.space, search.seed, next_number)
        trial = claim_trial(opened, objective.pruner, plan.n_trials)
        if trial is None:
            break
        if trial.number != next_number:
            study.sampler = build_sampler(
                search.sampler, objective.space, search.seed, trial.number
            )
        end = objective.run_trial(trial)
        objective.watcher.trial_ended(end, settled_count(study), best_ap(study))
        failed_in_a_row = [*failed_in_a_row, end] if end.state == TrialState.FAIL else []
        if len(failed_in_a_row) >= search.max_failures:
            raise SearchFailedError(
                f"{len(failed_in_a_row)} trials failed in a row; the last one, trial "
                f"{end.number}: {end.reason}"
            )
    if paused := end_paused(opened):
        objective.watcher.note(f"{len(paused)} paused trials end as pruned")
        for number in [] if objective.shares else paused:
            objective.forget(number)
    if finished_count(study) < plan.n_trials:
        points = math.prod(len(values) for values in grid(objective.space).values())
        objective.watcher.note(f"the grid has {points} points and all of them are tried")
