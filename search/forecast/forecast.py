"""The cost of a search: measures speeds on this machine and replays the search with them."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from rich.console import Console

from canopy_search.search.config.settings import CanopyConfig, Scalar
from canopy_search.search.config.space import SearchSpace, with_params
from canopy_search.search.errors import SearchError
from canopy_search.search.events import Progress, progress_to
from canopy_search.search.forecast.calibration import Speeds, calibrate
from canopy_search.search.forecast.estimates import Forecast, NetworkForecast, Range
from canopy_search.search.forecast.searches import (
    ReplayedSearch,
    network_of_settings,
    replay_searches,
)
from canopy_search.search.forecast.sharing import shared_epochs
from canopy_search.search.forecast.speed import Network, NetworkSpeed
from canopy_search.search.progress_display import open_screen
from canopy_search.search.study.checkpoint_place import checkpoint_url
from canopy_search.search.study.plan import SearchPlan, plan_search, shared_out
from canopy_search.search.study.preflight import check_networks, choices
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.workers.device_slots import DeviceSlot, device_slots
from canopy_search.storage.stages.checkpoint_files import CheckpointFiles
from canopy_search.storage.stages.checkpoints import FREE_SHARE, GIB, LARGEST_DEFAULT_BYTES
from canopy_search.training.data.dataset import data_sources
from canopy_search.training.data.sample import DataSample, open_sample
from canopy_search.training.device.memory import available_bytes
from canopy_search.training.device.precision import resolve_device
from canopy_search.training.resolve import resolve_settings
from canopy_search.training.settings import TrainingSettings

SAMPLE_IMAGES = 384
TRIAL_OVERHEAD_S = 0.05
"""Bookkeeping for a trial that is started or promoted (benchmarks/log)."""
OPEN_DATABASE_S = 5.0
"""Start of the database, first connections, and the work after the last trial (likewise)."""


@dataclass(frozen=True)
class ForecastRequest(StudyRequest):
    """A search to forecast.

    Attributes:
        n_trials: finished trials of the search.
        workers: workers on this machine; ``auto`` as in a search.
        gpus: number of GPUs to plan for; None for those of this machine.
        imported_s: seconds that the command took to start.
    """

    n_trials: int
    workers: int | Literal["auto"]
    gpus: int | None
    imported_s: float


def forecast_on_screen(request: ForecastRequest, console: Console) -> Forecast:
    """Measures this machine with a progress display and estimates the cost of a search.

    Raises:
        SearchError, TrainingError: the error that the search would fail with.
    """
    with closing(open_screen(console)) as screen:
        plan = plan_search(request, request.n_trials)
        config, home = plan.config, plan.workspace.home
        slots, number = slots_and_workers(config, request.workers, request.gpus)
        plan = replace(plan, workers=number)
        data_sources(config.data, home, progress_to(screen.emit))  # creates the demo if needed
        started = time.perf_counter()
        sample = open_sample(config.data, home, SAMPLE_IMAGES, progress_to(screen.emit))
        opening_s = time.perf_counter() - started - sample.decoding_s
        started = time.perf_counter()
        check_networks(plan.space, sample.dataset)
        checking_s = time.perf_counter() - started
        training = shared_out(config.training, config, len(slots), sample.train)
        space = SearchSpace(training, plan.space.distributions)
        calibration = calibrate(runs_to_measure(space), sample, slots, screen.emit)
        measured = Measured(training, sample, calibration.speeds)
        replayed = {
            n_trials: measured.replay(replace(plan, n_trials=n_trials))
            for n_trials in (plan.n_trials, 2 * plan.n_trials)
        }
        replays = len(replayed[plan.n_trials])
        screen.emit(Progress("replaying the search", replays, replays))
    # The command opens the data, and the workers open it again.
    start_s = request.imported_s + 2 * opening_s + checking_s
    start_s += calibration.startup_s + OPEN_DATABASE_S
    return measured.forecast(plan, replayed, start_s)


def runs_to_measure(space: SearchSpace) -> dict[Network, TrainingSettings]:
    """Returns a run of every backbone at the smallest and at the largest batch size.

    Other settings take their first choice or the top of their range; they hardly affect speed.
    """
    first = {name: _first(domain) for name, domain in space.distributions.items()}
    batch_sizes = choices(space, "batch_size")
    searched = space.distributions.get("batch_size")
    if isinstance(searched, IntDistribution):
        batch_sizes = [searched.low, searched.high]
    runs: dict[Network, TrainingSettings] = {}
    for backbone in choices(space, "backbone"):
        for batch_size in sorted({min(batch_sizes), max(batch_sizes)}):
            params = first | {"backbone": backbone, "batch_size": batch_size}
            settings = resolve_settings(with_params(space.training, params))
            runs[network_of_settings(settings)] = settings
    return runs


def between(
    speeds: Speeds, network: Network, value: Callable[[Sequence[NetworkSpeed]], float]
) -> float:
    """Returns a figure of a network, interpolated if its batch size was not measured.

    Args:
        speeds: the measurements.
        network: the network.
        value: measurements of one network → figure. The figure is assumed to be one part per image
            plus one part per batch.
    """
    if network in speeds:
        return value(speeds[network])
    backbone, size = network
    few, many = (
        Network(backbone, pick(known.batch_size for known in speeds if known.backbone == backbone))
        for pick in (min, max)
    )
    share = (1 / size - 1 / many.batch_size) / (1 / few.batch_size - 1 / many.batch_size)
    return share * value(speeds[few]) + (1 - share) * value(speeds[many])


@dataclass(frozen=True)
class Measured:
    """What was measured on this machine.

    Attributes:
        training: fixed settings of the search without ``auto``.
        sample: images of the data.
        speeds: of every network.
    """

    training: TrainingSettings
    sample: DataSample
    speeds: Speeds

    def replay(self, plan: SearchPlan) -> list[ReplayedSearch]:
        """Replays a search at the measured speeds."""
        return replay_searches(
            plan,
            self.training,
            self.sample.dataset,
            lambda network: between(self.speeds, network, _epoch_s),
            lambda network: TRIAL_OVERHEAD_S + between(self.speeds, network, _build_s),
        )

    def forecast(
        self, plan: SearchPlan, replayed: Mapping[int, Sequence[ReplayedSearch]], start_s: float
    ) -> Forecast:
        """Combines measurements and replays into a forecast.

        Args:
            plan: the search, with the number of its workers.
            replayed: number of trials → replayed searches; includes the requested number.
            start_s: seconds until the workers train.
        """
        replays = replayed[plan.n_trials]
        backbones = list(choices(plan.space, "backbone"))
        networks = tuple(
            NetworkForecast(
                network,
                Range(
                    *(
                        between(self.speeds, network, figure)
                        for figure in (_low_s, _epoch_s, _high_s)
                    )
                ),
                Range.from_values([replay.trained.get(network, 0) for replay in replays]),
                int(between(self.speeds, network, _checkpoint_bytes)),
            )
            for network in sorted(
                {network for replay in replays for network in replay.trained},
                key=lambda network: (backbones.index(network.backbone), network.batch_size),
            )
        )
        mean_s = Range(0.0, 0.0, 0.0)  # total training time with the shortest and longest epochs
        for each in networks:
            trained = fmean(replay.trained.get(each.network, 0) for replay in replays)
            epoch_s = each.epoch_s
            mean_s += Range(trained * epoch_s.low, trained * epoch_s.likely, trained * epoch_s.high)
        checkpoint_bytes = {each.network: each.checkpoint_bytes for each in networks}
        device = resolve_device(self.training.device)
        # Each GPU has its own memory.
        workers_on_device = (
            plan.config.search.slots_per_gpu if device.type == "cuda" else plan.workers
        )
        files = CheckpointFiles(checkpoint_url(plan.config.stages, plan.workspace.home), "")
        return Forecast(
            study=plan.study,
            n_trials=plan.n_trials,
            workers=plan.workers,
            device=str(device),
            threads=int(self.training.threads),
            images=self.sample.images,
            is_decoded=self.sample.is_decoded,
            start_s=Range(start_s, start_s, start_s),
            decode_s=_decode_s(self.sample),
            search_s=Range.from_values([replay.search_s for replay in replays]).times(
                mean_s.low / mean_s.likely, mean_s.high / mean_s.likely
            ),
            reported=Range.from_values([replay.reported for replay in replays]),
            trained=Range.from_values([sum(replay.trained.values()) for replay in replays]),
            replays=len(replays),
            sure_within_01={str(n): _share_within(each, 0.01) for n, each in replayed.items()},
            networks=networks,
            cache_bytes=self.sample.cache_bytes,
            free_bytes=shutil.disk_usage(plan.workspace.home).free,
            checkpoint_bytes=Range.from_values(
                [
                    sum(
                        count * checkpoint_bytes[network]
                        for network, count in replay.trained.items()
                    )
                    for replay in replays
                ]
            ),
            budget_bytes=_budget_bytes(plan, files),
            checkpoint_place=files.place,
            worker_bytes=int(
                2**20 * max(speed.peak_mib for each in self.speeds.values() for speed in each)
            ),
            workers_on_device=workers_on_device,
            memory_free_bytes=available_bytes(device),
            sharing=shared_epochs(
                SearchSpace(self.training, plan.space.distributions), self.sample.dataset
            )
            if plan.config.stages.enabled
            else {},
        )


def _share_within(replays: Sequence[ReplayedSearch], regret: float) -> float:
    return fmean(each.regret is not None and each.regret <= regret for each in replays)


def _decode_s(sample: DataSample) -> Range:
    if sample.is_decoded:
        return Range(0.0, 0.0, 0.0)
    return Range.from_values([sample.images / speed for speed in sample.images_per_s])


def _budget_bytes(plan: SearchPlan, files: CheckpointFiles) -> int:
    """Returns the limit on checkpoints; ``auto`` as in an empty store."""
    budget = plan.config.stages.budget_gib
    if budget != "auto":
        return int(budget * GIB)
    free = files.free_bytes()
    return (
        LARGEST_DEFAULT_BYTES
        if free is None
        else min(LARGEST_DEFAULT_BYTES, int(FREE_SHARE * free))
    )


def _first(domain: BaseDistribution) -> Scalar:
    if isinstance(domain, CategoricalDistribution):
        return domain.choices[0]
    if not isinstance(domain, IntDistribution | FloatDistribution):
        raise TypeError(f"expected a range of ints or floats, found {domain}")
    return domain.high


def _passes(speeds: Sequence[NetworkSpeed]) -> Range:
    return Range.from_values([epoch_s for speed in speeds for epoch_s in speed.epoch_s])


def _low_s(speeds: Sequence[NetworkSpeed]) -> float:
    return _passes(speeds).low


def _epoch_s(speeds: Sequence[NetworkSpeed]) -> float:
    return _passes(speeds).likely


def _high_s(speeds: Sequence[NetworkSpeed]) -> float:
    return _passes(speeds).high


def _build_s(speeds: Sequence[NetworkSpeed]) -> float:
    return fmean(speed.build_s for speed in speeds)


def _checkpoint_bytes(speeds: Sequence[NetworkSpeed]) -> float:
    return max(speed.checkpoint_bytes for speed in speeds)


def slots_and_workers(
    config: CanopyConfig, workers: int | Literal["auto"], gpus: int | None
) -> tuple[list[DeviceSlot], int]:
    """Returns the slots to measure on, and the search's number of workers.

    Args:
        config: the whole configuration.
        workers: number of workers; ``auto`` as in a search.
        gpus: number of GPUs to plan for; None for those of this machine.

    Raises:
        SearchError: there is no GPU to measure on.
        SettingsError: the configured device does not exist.
    """
    device, per_gpu = config.training.device, config.search.slots_per_gpu
    slots = device_slots(device, "auto" if gpus else workers, per_gpu)
    if gpus is None:
        return slots, len(slots)
    if resolve_device(device).type != "cuda":
        raise SearchError(
            "--gpus: there is no GPU here to measure on; run it on a machine with a GPU"
        )
    return slots, gpus * per_gpu
