"""``canopy search --dry-run``: checks everything a search needs, without running a trial."""

import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console

from canopy_search.dashboards.formatting.tables import (
    duration_text,
)
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.config.space import SearchSpace, with_params
from canopy_search.search.doctor.checkpoints import checked_place
from canopy_search.search.errors import SearchFailedError
from canopy_search.search.events import Emit, Note, Progress
from canopy_search.search.progress_display import open_screen
from canopy_search.search.scheduling.factory import grid
from canopy_search.search.scheduling.next_trial import finished_count
from canopy_search.search.study.plan import SearchPlan, as_started, compare_with_study, plan_search
from canopy_search.search.study.preflight import (
    check_networks,
    choices,
    largest_batch_size,
    open_data,
)
from canopy_search.search.trial.objective import failure_reason
from canopy_search.search.workers.backend import Placement
from canopy_search.storage.database import open_database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.device.memory import available_bytes
from canopy_search.training.device.precision import resolve_device
from canopy_search.training.errors import DivergedError, TrainingError
from canopy_search.training.run import EpochMetrics, TrainingRun
from canopy_search.training.settings import TrainingSettings
from canopy_search.training.sizes import size_text

# The first step sets up kernels and buffers, so the second one is timed; if the first took this
# long, the setup time hardly matters.
SLOW_STEP_S = 5.0


@dataclass(frozen=True)
class TriedStep:
    """One training step and one validation batch of a network.

    Attributes:
        images: number of images in the step.
        step_s: wall time of the step, in seconds.
        epoch_s: estimated wall time of an epoch with its validation, in seconds.
    """

    images: int
    step_s: float
    epoch_s: float


def try_search(  # noqa: PLR0917 - the six things a search needs
    config: CanopyConfig,
    home: Path,
    url: str | None,
    study: str,
    n_trials: int,
    emit: Emit,
) -> None:
    """Checks everything a search needs, one line per check, and does not change the study.

    Args:
        config: the whole configuration.
        home: the state folder; the decoded images stay there for the search.
        url: URL of the database; None for the embedded one.
        study: name of the study.
        n_trials: total of finished trials.
        emit: receives the results.

    Raises:
        SearchError, TrainingError, StorageError: the error that the search would end with.
    """
    with _check("configuration", emit) as found:
        plan = plan_search(config, home, study, n_trials)
        searched = ", ".join(plan.space.distributions)
        found.append(f"{n_trials} trials over {searched}")
    if config.stages.enabled and config.stages.checkpoints != "auto":
        with _check("checkpoints", emit) as found:
            found.append(f"{checked_place(config.stages, home)} can be written")
    with _check("database", emit) as found:
        database = open_database(home, url)
        found.append(database.place)
    with closing(database):
        store = StudyStore(database)
        with _check("data", emit) as found:
            dataset = open_data(config.data, home, emit)
            found.append(f"{len(dataset.image_names):,} images can be used")
        with _check("memory", emit) as found:
            needed = check_networks(plan.space, dataset)
            found.append(_memory_text(needed, plan.space))
        with _check("study", emit) as found:
            left, text = _trials_left(plan, store, dataset)
            found.append(text)
    epochs = _try_networks(plan.space, dataset, emit)
    emit(Note(_ready_text(left, n_trials, epochs)))


def try_placement(  # noqa: PLR0917 - as above
    config: CanopyConfig,
    home: Path,
    url: str | None,
    study: str,
    n_trials: int,
    elsewhere: Placement,
    emit: Emit,
) -> None:
    """Checks a search on other machines as far as this machine can, one line per check.

    Each worker checks on its own machine, before its first trial, that the data is there and that
    the networks fit.

    Args:
        config: the whole configuration.
        home: the state folder.
        url: URL of the database; None for the embedded one.
        study: name of the study.
        n_trials: total of finished trials.
        elsewhere: the backend that will place the workers.
        emit: receives the results.

    Raises:
        SearchError, TrainingError, StorageError: the error that the search would end with.
    """
    with _check("configuration", emit) as found:
        plan = plan_search(config, home, study, n_trials, is_local=False)
        found.append(f"{n_trials} trials over {', '.join(plan.space.distributions)}")
    with _check("database", emit) as found:
        database = open_database(home, url)
        found.append(database.place)
    database.close()
    with _check("machines", emit) as found, closing(elsewhere.open(plan, url, found.append)):
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


def _memory_text(needed: dict[str, int], space: SearchSpace) -> str:
    backbone = max(needed, key=lambda name: needed[name])
    device = resolve_device(choices(space, "device")[0])
    return (
        f"{backbone} needs the most memory, at least {size_text(needed[backbone])}; "
        f"{size_text(available_bytes(device))} are free on {device}"
    )


def _trials_left(plan: SearchPlan, store: StudyStore, dataset: Dataset) -> tuple[int, str]:
    """Returns how many trials remain, and the study's progress; does not start the study."""
    if plan.study not in store.names():
        finished, text = 0, f"{plan.study} is new"
    else:
        study = store.open_study(plan.study)
        compare_with_study(plan, store, study, dataset)
        plan = as_started(plan, store.read_record(plan.study))
        finished = finished_count(study)
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
            pretrained = "" if weights == "none" else f" from {weights}"
            found.append(f"{backbone}{pretrained} with {loss}")
            try:
                tried = _try_network(with_params(space.training, params), dataset)
            except DivergedError as error:
                # The search would prune such a trial and continue.
                found.append(f"{error}, so such a trial would be pruned")
                continue
            found.append(f"{tried.images} images took {_seconds_text(tried.step_s)}")
            if loss == losses[0]:  # the other losses take the same time
                epochs[backbone] = max(tried.epoch_s, epochs.get(backbone, 0.0))
                found.append(f"an epoch takes about {_seconds_text(tried.epoch_s)}")
    return epochs


def _try_network(settings: TrainingSettings, dataset: Dataset) -> TriedStep:
    """Trains one batch as a trial would, and validates on another.

    Raises:
        DivergedError: the loss or a logit is not finite.
        TrainingError: the network cannot be built, or its weights cannot be loaded.
        SearchFailedError: another error that would make the trial fail.
    """
    batch = _one_batch(dataset, settings.batch_size)
    try:
        run = TrainingRun(settings, batch)
        measured = run.train_epoch()
        if measured.train_s < SLOW_STEP_S:
            measured = run.train_epoch()
    except TrainingError:
        raise
    except Exception as error:
        raise SearchFailedError(
            f"a training step of {settings.backbone} with {settings.loss} failed: "
            f"{failure_reason(error)}"
        ) from error
    return TriedStep(len(batch.split.train), measured.train_s, _epoch_s(measured, batch, dataset))


def _epoch_s(measured: EpochMetrics, batch: Dataset, dataset: Dataset) -> float:
    train = measured.train_s * len(dataset.split.train) / len(batch.split.train)
    validation = measured.validation.seconds * len(dataset.split.validation)
    return train + validation / len(batch.split.validation)


def _one_batch(dataset: Dataset, batch_size: int) -> Dataset:
    """Returns the data with one training batch and one validation batch that has labels."""
    split = dataset.split
    has_label = dataset.targets[split.validation].any(axis=1)
    # Images with a label come first, because without a label there is no AP.
    order = np.argsort(~has_label, kind="stable")
    batch = replace(
        split,
        train=split.train[:batch_size],
        validation=np.sort(split.validation[order[:batch_size]]),
    )
    return replace(dataset, split=batch)


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


def try_on_screen(  # noqa: PLR0917 - as above
    config: CanopyConfig,
    home: Path,
    url: str | None,
    study: str,
    n_trials: int,
    console: Console,
    elsewhere: Placement | None = None,
) -> None:
    """Checks everything a search needs, without starting it, and shows the results.

    Args:
        config: the whole configuration.
        home: the state folder.
        url: URL of the database; None for the embedded one.
        study: name of the study.
        n_trials: total of finished trials.
        console: where the results are shown.
        elsewhere: the backend that will place the workers on other machines; None for this one.
    """
    screen = open_screen(console)
    try:
        if elsewhere is None:
            try_search(config, home, url, study, n_trials, screen.emit)
        else:
            try_placement(config, home, url, study, n_trials, elsewhere, screen.emit)
    finally:
        screen.close()
