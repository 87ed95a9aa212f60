"""What a search is asked for: checked without data and database, then begun or gone on with."""

import warnings
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning

from canopy_search.search.config.settings import CanopyConfig, NamedSettings
from canopy_search.search.config.space import SearchSpace, parse_space, with_params
from canopy_search.search.errors import StudyDiffersError
from canopy_search.search.scheduling.factory import check_sampling
from canopy_search.search.study.checkpoint_place import check_place
from canopy_search.search.study.preflight import choices
from canopy_search.search.study.record import (
    Record,
    check_same_study,
    resolved_as_before,
    study_record,
)
from canopy_search.storage.connection.retry import DEFAULT_RETRY_FOR_S
from canopy_search.storage.study.studies import StudyStore
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.device.precision import resolve_threads
from canopy_search.training.errors import UnknownNameError
from canopy_search.training.network.backbones import check_backbone, check_weights
from canopy_search.training.optimization.losses import check_loss
from canopy_search.training.optimization.optimizers import check_optimizer
from canopy_search.training.resolve import resolve_settings
from canopy_search.training.settings import TrainingSettings

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
        workers: on this machine, which share its cores.
        slot: the device that this process works on, for people.
        retry_for_s: how long to wait for a database that is away, in seconds.
        threads: of each worker where the configuration does not say; None for its share of this
            machine's cores.
    """

    config: CanopyConfig
    space: SearchSpace
    home: Path
    study: str
    n_trials: int
    workers: int = 1
    slot: str = "cpu"
    retry_for_s: float = DEFAULT_RETRY_FOR_S
    threads: int | None = None


def plan_search(
    config: CanopyConfig,
    home: Path,
    study: str,
    n_trials: int,
    *,
    retry_for_s: float = DEFAULT_RETRY_FOR_S,
    here: bool = True,
) -> SearchPlan:
    """Checks a search and returns what will be done.

    Args:
        config: the whole configuration.
        home: the state folder.
        study: name of the study.
        n_trials: total of finished trials of the study.
        retry_for_s: how long to wait for a database that is away, in seconds.
        here: whether this machine trains, and so has to have the device.

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
    machine = ("device", "precision", "compile")
    for values in product(*(choices(space, name) for name in machine)) if here else ():
        resolve_settings(with_params(space.training, dict(zip(machine, values, strict=True))))
    check_sampling(config.search, space, config.training.epochs)
    check_place(config.stages, home)
    return SearchPlan(config, space, home, study, n_trials, retry_for_s=retry_for_s)


def as_begun(plan: SearchPlan, record: Record | None) -> SearchPlan:
    """Returns a plan with the sampler, pruner and verification that its study began with.

    Those that the configuration names stay: only a default gives way, for it may be another one in
    another release.

    Args:
        plan: what is asked for.
        record: what the study began with; None if it begins now.

    Raises:
        SamplerError: what the study began with does not exist here.
    """
    if record is None:
        return plan
    asked, before = plan.config.search, record["config"]["search"]
    kept: dict[str, Any] = {
        name: NamedSettings.model_validate(before[name])
        for name in ("sampler", "pruner")
        if name not in asked.model_fields_set and name in before
    }
    if "verify" not in asked.model_fields_set and "verify" in before:
        kept["verify"] = before["verify"]
    search = asked.model_copy(update=kept)
    if search == asked:
        return plan
    check_sampling(search, plan.space, plan.config.training.epochs)
    return replace(plan, config=plan.config.model_copy(update={"search": search}))


@dataclass(frozen=True)
class BegunStudy:
    """A study that has begun, as this process sees it.

    Attributes:
        plan: what it is asked for.
        space: what is searched; every ``auto`` is what it meant when the study began.
        dataset: the images and labels.
    """

    plan: SearchPlan
    space: SearchSpace
    dataset: Dataset


def begin_study(plan: SearchPlan, store: StudyStore, dataset: Dataset) -> BegunStudy:
    """Opens the study, or begins it.

    Raises:
        StudyDiffersError: it began with other data or other fixed settings, or not with Canopy.
    """
    study = check_ours(plan, store)
    training, now = compare_with_study(plan, store, study, dataset)
    # Another process may have begun it since.
    check_same_study(plan.study, store.write_record(plan.study, now), now)
    return BegunStudy(plan, SearchSpace(training, plan.space.distributions), dataset)


def check_ours(plan: SearchPlan, store: StudyStore) -> optuna.Study:
    """Opens the study in the database, where it is made if there is none of that name.

    Raises:
        StudyDiffersError: it has trials, and was not begun by Canopy.
    """
    study = store.open_study(plan.study)
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([OBJECTIVE])
    _check_ours(plan, study, store.read_record(plan.study))
    return study


def _check_ours(plan: SearchPlan, study: optuna.Study, record: Record | None) -> None:
    if record is None and study.get_trials(deepcopy=False):
        raise StudyDiffersError(
            f"study {plan.study!r} has trials and was not begun by Canopy; choose another name "
            "with --study"
        )


def join_study(plan: SearchPlan, store: StudyStore, dataset: Dataset) -> BegunStudy:
    """Opens a study that somebody else has begun.

    Raises:
        UnknownStudyError: there is none of that name.
        StudyDiffersError: it began with other data, other fixed settings or other versions, or not
            with Canopy.
    """
    before = store.read_record(plan.study)
    if before is None:
        raise StudyDiffersError(
            f"study {plan.study!r} was not begun by Canopy; begin another one with: canopy search"
        )
    training, now = _described(plan, dataset, before)
    check_same_study(plan.study, before, now)
    return BegunStudy(plan, SearchSpace(training, plan.space.distributions), dataset)


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
    before = store.read_record(plan.study)
    _check_ours(plan, study, before)
    training, now = _described(plan, dataset, before)
    if before is not None:
        check_same_study(plan.study, before, now)
    return training, now


def _described(
    plan: SearchPlan, dataset: Dataset, before: Record | None
) -> tuple[TrainingSettings, Record]:
    """Returns the fixed settings without ``auto``, and what describes the study as planned."""
    training = plan.config.training
    if before is not None:
        training = resolved_as_before(training, before)
    if training.threads == "auto" and plan.threads is not None:
        training = training.model_copy(update={"threads": plan.threads})
    training = shared_out(training, plan.workers, len(dataset.split.train))
    return training, study_record(plan.config, plan.space, training, dataset)


def shared_out(training: TrainingSettings, workers: int, training_images: int) -> TrainingSettings:
    """Returns settings without ``auto``, the machine's threads shared out between workers.

    Args:
        training: the settings.
        workers: that train on this machine at the same time.
        training_images: of an epoch.
    """
    if training.threads == "auto":
        share = max(1, resolve_threads("auto") // workers)
        training = training.model_copy(update={"threads": share})
    return resolve_settings(training, training_images)
