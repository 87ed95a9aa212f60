"""``canopy search --dry-run``: checks everything a search needs, without running a trial."""

import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import product
from pathlib import PurePosixPath

from rich.console import Console

from canopy_search.dashboards.formatting.values import duration_text
from canopy_search.search.config.space import SearchSpace, with_params
from canopy_search.search.doctor.checkpoints import checked_place
from canopy_search.search.errors import SearchFailedError
from canopy_search.search.events import Emit, Note, Progress
from canopy_search.search.forecast.speed import FirstStep, first_step
from canopy_search.search.progress_display import open_screen
from canopy_search.search.scheduling.factory import grid
from canopy_search.search.scheduling.next_trial import finished_count
from canopy_search.search.study.plan import (
    SearchPlan,
    as_started,
    check_ours,
    compare_with_study,
    plan_search,
)
from canopy_search.search.study.preflight import (
    check_networks,
    choices,
    largest_batch_size,
    open_data,
    weights_fits,
)
from canopy_search.search.trial.objective import failure_reason
from canopy_search.search.workers.backend import Placement
from canopy_search.search.workflows.run_study import SearchRequest
from canopy_search.storage.study.studies import StudyStore
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.data.sample import DataSample, sample_of
from canopy_search.training.errors import DivergedError, TrainingError
from canopy_search.training.settings import TrainingSettings
from canopy_search.training.sizes import size_text


def try_search(request: SearchRequest, emit: Emit) -> None:
    """Checks everything a search needs, one line per check, and does not change the study.

    Args:
        request: the search; the decoded images stay in the state folder for it.
        emit: receives the results.

    Raises:
        SearchError, TrainingError, StorageError: the error that the search would end with.
    """
    with _check("configuration", emit) as found:
        plan = plan_search(request, request.n_trials)
        found.append(_plan_text(plan))
    stages, home = plan.config.stages, plan.workspace.home
    if stages.enabled and stages.checkpoints != "auto":
        with _check("checkpoints", emit) as found:
            found.append(f"{checked_place(stages, home)} can be written")
    with _check("database", emit) as found:
        database = plan.workspace.open()
        found.append(database.place)
    with closing(database):
        store = StudyStore(database)
        with _check("data", emit) as found:
            dataset = open_data(plan.config.data, home, emit)
            found.append(f"{len(dataset.image_names):,} images can be used")
        with _check("memory", emit) as found:
            step = check_networks(plan.space, dataset)
            found.append(
                f"{step.settings.backbone} needs the most memory, at least "
                f"{size_text(step.needed_bytes)}; {size_text(step.available_bytes)} are free on "
                f"{step.settings.device}"
            )
        with _check("study", emit) as found:
            left, text = _trials_left(plan, store, dataset)
            found.append(text)
    epochs = _try_networks(plan.space, dataset, emit)
    emit(Note(_ready_text(left, plan.n_trials, epochs)))


def try_placement(request: SearchRequest, elsewhere: Placement, emit: Emit) -> None:
    """Checks a search on other machines as far as this machine can, one line per check.

    Each worker checks on its own machine, before its first trial, that the data is there and that
    the networks fit.

    Args:
        request: the search.
        elsewhere: the backend that will place the workers.
        emit: receives the results.

    Raises:
        SearchError, TrainingError, StorageError: the error that the search would end with.
    """
    with _check("configuration", emit) as found:
        plan = plan_search(request, request.n_trials, is_local=False)
        found.append(_plan_text(plan))
    with _check("database", emit) as found:
        database = plan.workspace.open()
        found.append(database.place)
    database.close()
    with (
        _check("machines", emit) as found,
        closing(elsewhere.open(plan, found.append)),
    ):
        pass
    emit(
        Note(
            "ready as far as this machine can check; data, versions and memory of the other "
            "machines are checked there before a trial starts"
        )
    )


@contextmanager
def _check(name: str, emit: Emit) -> Iterator[list[str]]:
    """Prints what was found and how many seconds the check took, unless it failed."""
    started = time.perf_counter()
    found: list[str] = []
    yield found
    emit(Note(f"{name:<14}{time.perf_counter() - started:>6.1f} s  {'; '.join(found)}"))


def _plan_text(plan: SearchPlan) -> str:
    return f"{plan.n_trials} trials over {', '.join(plan.space.distributions)}"


def _trials_left(plan: SearchPlan, store: StudyStore, dataset: Dataset) -> tuple[int, str]:
    """Returns how many trials remain, and the study's progress; does not start the study."""
    if plan.study not in store.names():
        finished, text = 0, f"{plan.study} is new"
    else:
        study, record = store.open_study(plan.study), store.read_record(plan.study)
        check_ours(study, record)
        compare_with_study(plan, record, dataset)
        plan = as_started(plan, record)
        finished = finished_count(store.trials(plan.study))
        text = f"{plan.study} is unchanged and has {finished} finished trials"
    total = plan.n_trials
    if plan.config.search.sampler.name == "grid":
        total = min(total, math.prod(len(values) for values in grid(plan.space).values()))
    left = max(0, total - finished)
    return left, f"{text}; {left} to go"


def _try_networks(space: SearchSpace, dataset: Dataset, emit: Emit) -> dict[str, float]:
    """Takes a step with every backbone and with every loss.

    Returns:
        Backbone → estimated seconds of an epoch.
    """
    losses = choices(space, "loss")
    backbones = list(product(choices(space, "backbone"), choices(space, "weights")))
    pairs = [(*backbone, losses[0]) for backbone in backbones]
    pairs += [(*backbones[0], loss) for loss in losses[1:]]
    epochs: dict[str, float] = {}
    sample = sample_of(dataset, 3 * largest_batch_size(space))
    fits = weights_fits(space, dataset.facts)
    for index, (backbone, weights, loss) in enumerate(pairs):
        emit(Progress(f"a step of {backbone}", index, len(pairs)))
        params = {
            "backbone": backbone,
            "weights": weights,
            "loss": loss,
            "batch_size": largest_batch_size(space),
            "device": choices(space, "device")[0],
            "precision": choices(space, "precision")[0],
            "optimizer.name": choices(space, "optimizer.name")[0],
        }
        with _check("training step", emit) as found:
            pretrained = "" if weights == "none" else f" from {PurePosixPath(weights).name}"
            found.append(f"{backbone}{pretrained} with {loss}")
            if (backbone, weights) in fits:
                found.append(str(fits[backbone, weights]))
            try:
                tried = _try_network(with_params(space.training, params), sample)
            except DivergedError as error:
                # The search would prune such a trial and continue.
                found.append(f"{error}, so such a trial would be pruned")
                continue
            found.append(f"{tried.images} images took {_seconds_text(tried.metrics.train_s)}")
            if loss == losses[0]:  # the other losses take the same time
                epochs[backbone] = max(tried.epoch_s, epochs.get(backbone, 0.0))
                found.append(f"an epoch takes about {_seconds_text(tried.epoch_s)}")
    return epochs


def _try_network(settings: TrainingSettings, sample: DataSample) -> FirstStep:
    """Trains one batch as a trial would, and validates on another.

    Raises:
        DivergedError: the loss or a logit is not finite.
        TrainingError: the network cannot be built, or its weights cannot be loaded.
        SearchFailedError: another error that would make the trial fail.
    """
    try:
        return first_step(settings, sample)
    except TrainingError:
        raise
    except Exception as error:
        raise SearchFailedError(
            f"a training step of {settings.backbone} with {settings.loss} failed: "
            f"{failure_reason(error)}"
        ) from error


def _ready_text(left: int, n_trials: int, epochs: dict[str, float]) -> str:
    if not left:
        return f"ready: the study already has its {n_trials} trials; a larger --trials adds more"
    text = f"ready: {left} trials to go"
    if epochs:
        times = ", ".join(f"{_seconds_text(epochs[name])} with {name}" for name in epochs)
        text += f"; an epoch takes about {times} (estimated from single steps)"
    return text


def _seconds_text(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else duration_text(seconds)


def try_on_screen(request: SearchRequest, console: Console) -> None:
    """Checks everything a search needs, without starting it, and shows the results.

    Args:
        request: the search.
        console: where the results are shown.
    """
    screen = open_screen(console)
    try:
        if request.limits.elsewhere is None:
            try_search(request, screen.emit)
        else:
            try_placement(request, request.limits.elsewhere, screen.emit)
    finally:
        screen.close()
