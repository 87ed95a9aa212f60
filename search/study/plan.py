"""The plan of a search: checked without data and database, then used to start or join a study."""

import warnings
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning

from canopy_search.search.config.settings import CanopyConfig, NamedSettings
from canopy_search.search.config.space import SearchSpace, with_params
from canopy_search.search.errors import StudyDiffersError
from canopy_search.search.scheduling.factory import build_pruner
from canopy_search.search.scheduling.pausing_pruner import epochs_at_once
from canopy_search.search.study.checkpoint_place import check_place
from canopy_search.search.study.configuration import Configuration, checked
from canopy_search.search.study.preflight import choices
from canopy_search.search.study.record import (
    Record,
    check_same_study,
    resolved_as_before,
    study_record,
)
from canopy_search.search.study.request import StudyRequest
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workspace import Workspace
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.device.precision import resolve_threads
from canopy_search.training.errors import UnknownNameError
from canopy_search.training.network.backbones import check_backbone, check_weights
from canopy_search.training.network.weights_files import weights_identity
from canopy_search.training.optimization.losses import check_loss
from canopy_search.training.optimization.optimizers import check_optimizer
from canopy_search.training.resolve import resolve_settings
from canopy_search.training.settings import TrainingSettings

OBJECTIVE = "val_ap"  # the name of a trial's value in optuna-dashboard


@dataclass(frozen=True)
class SearchPlan:
    """A requested search, checked as far as possible without data and database.

    Attributes:
        workspace: the state folder and the database.
        config: the whole configuration.
        space: its search space; once the study has started, every ``auto`` is resolved as then.
        study: name of the study.
        n_trials: total of finished trials of the study.
        workers: number of workers on this machine, which share its cores.
        slot: the device of this process, as text.
        threads: threads of each worker if the configuration says ``auto``; None for its share of
            this machine's cores.
        fingerprint: of the images and labels, once this machine has started the study.
        worker_id: id of this process among the workers; None for a random one.
        workers_on_device: workers that share the device of this process; None for
            `search.slots_per_gpu`.
    """

    workspace: Workspace
    config: CanopyConfig
    space: SearchSpace
    study: str
    n_trials: int
    workers: int = 1
    slot: str = "cpu"
    threads: int | None = None
    fingerprint: str | None = None
    worker_id: int | None = None
    workers_on_device: int | None = None

    @property
    def request(self) -> StudyRequest:
        """The study, its configuration and the workspace."""
        return StudyRequest(self.workspace, Configuration(self.config, self.space), self.study)


def plan_search(request: StudyRequest, n_trials: int, *, is_local: bool = True) -> SearchPlan:
    """Checks a search and returns its plan.

    Args:
        request: the study, its configuration and the workspace.
        n_trials: total of finished trials of the study.
        is_local: whether this machine trains, and so needs the device.

    Raises:
        TrainingError: a backbone, loss, optimizer or weights file does not exist, or the device is
            unavailable.
        CheckpointPlaceError: the configured checkpoint storage cannot be used.
    """
    config, space = request.configuration.settings, request.configuration.space
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
        if is_local:
            weights_identity(weights)  # reads a file, so that a missing one is named at once
    machine = ("device", "precision", "compile")
    for values in product(*(choices(space, name) for name in machine)) if is_local else ():
        resolve_settings(with_params(space.training, dict(zip(machine, values, strict=True))))
    check_place(config.stages, request.workspace.home)
    return SearchPlan(request.workspace, config, space, request.study, n_trials)


def as_started(plan: SearchPlan, record: Record | None) -> SearchPlan:
    """Returns a plan with the sampler, pruner and verification that its study started with.

    Only defaults are replaced, since they may change between releases; values that the
    configuration sets are kept.

    Args:
        plan: the requested plan.
        record: the study's record; None if the study is new.

    Raises:
        SamplerError: the study's sampler or pruner does not exist in this version.
    """
    if record is None:
        return plan
    requested, before = plan.config.search, record["config"]["search"]
    kept: dict[str, Any] = {
        name: NamedSettings.model_validate(before[name])
        for name in ("sampler", "pruner")
        if name not in requested.model_fields_set and name in before
    }
    if "verify" not in requested.model_fields_set and "verify" in before:
        kept["verify"] = before["verify"]
    search = requested.model_copy(update=kept)
    if search == requested:
        return plan
    return replace(plan, config=checked(plan.config.model_copy(update={"search": search})).settings)


@dataclass(frozen=True)
class StartedStudy:
    """A started study, as opened by this process.

    Attributes:
        plan: the plan; every ``auto`` of its space is resolved as when the study started.
        dataset: the images and labels.
    """

    plan: SearchPlan
    dataset: Dataset


def start_study(plan: SearchPlan, store: StudyStore, dataset: Dataset) -> StartedStudy:
    """Opens the study, or starts it.

    Raises:
        StudyDiffersError: it was started with other data or fixed settings, or not by Canopy.
    """
    create_study(plan, store)
    started, now = compare_with_study(plan, store.read_record(plan.study), dataset)
    # Another process may have started it in the meantime.
    check_same_study(plan.study, store.write_record(plan.study, now), now)
    return started


def create_study(plan: SearchPlan, store: StudyStore) -> None:
    """Creates the study in the database, if there is none with that name.

    Raises:
        StudyDiffersError: it has trials, and was not started by Canopy.
        StudyArchivedError: it is archived.
    """
    study = store.open_study(plan.study)
    store.check_not_archived(plan.study)
    check_ours(study, store.read_record(plan.study))
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([OBJECTIVE])


def check_ours(study: optuna.Study, record: Record | None) -> None:
    """Checks that Canopy started a study, if it has trials.

    Raises:
        StudyDiffersError: it has trials, and no record.
    """
    if record is None and study.get_trials(deepcopy=False):
        raise StudyDiffersError(
            f"study {study.study_name!r} has trials and was not started by Canopy; choose another "
            "name with --study"
        )


def join_study(plan: SearchPlan, store: StudyStore, dataset: Dataset) -> StartedStudy:
    """Opens a study that has been started, by this machine or another one.

    Raises:
        UnknownStudyError: there is no study with that name.
        StudyDiffersError: it was started with other data, fixed settings or versions, or not by
            Canopy.
        SettingsError: the device of this process does not support the study's precision.
    """
    if plan.fingerprint is not None:  # by this machine, whose settings and versions are the same
        resolve_settings(plan.space.training)  # but another GPU of it may be older
        if plan.fingerprint != dataset.fingerprint:
            raise StudyDiffersError(
                f"the images or labels of study {plan.study!r} have changed since it was started; "
                "restore them, or start another study with --study NAME"
            )
        return StartedStudy(plan, dataset)
    record = store.read_record(plan.study)
    if record is None:
        raise StudyDiffersError(
            f"study {plan.study!r} was not started by Canopy; start another one with: canopy search"
        )
    return compare_with_study(plan, record, dataset)[0]


def compare_with_study(
    plan: SearchPlan, before: Record | None, dataset: Dataset
) -> tuple[StartedStudy, Record]:
    """Checks that a study can resume with this plan; changes nothing.

    Args:
        plan: the requested search.
        before: the study's record; None if the study is new.
        dataset: the images and labels.

    Returns:
        The study as it resumes, and the record that describes it as requested now.

    Raises:
        StudyDiffersError: it was started with other data, fixed settings or versions.
    """
    training = plan.config.training
    if before is not None:
        training = resolved_as_before(training, before)
    if training.threads == "auto" and plan.threads is not None:
        training = training.model_copy(update={"threads": plan.threads})
    training = shared_out(training, plan.config, plan.workers, len(dataset.split.train))
    now = study_record(plan.config, plan.space, training, dataset)
    if before is not None:
        check_same_study(plan.study, before, now)
    space = SearchSpace(training, plan.space.distributions)
    return StartedStudy(replace(plan, space=space, fingerprint=dataset.fingerprint), dataset), now


def shared_out(
    training: TrainingSettings, config: CanopyConfig, workers: int, training_images: int
) -> TrainingSettings:
    """Returns settings without ``auto``, with the machine's threads divided between workers.

    Args:
        training: the settings.
        config: of the study; its pruner says when runs pause.
        workers: number of workers that train on this machine at the same time.
        training_images: number of images in an epoch.
    """
    if training.threads == "auto":
        share = max(1, resolve_threads("auto") // workers)
        training = training.model_copy(update={"threads": share})
    pruner = build_pruner(config.search.pruner, training.epochs)
    return resolve_settings(training, training_images, epochs_at_once(pruner))
