"""Replays a search on likely curves to count the epochs that it trains with each network."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from canopy_search.search.config.space import Params, SearchSpace, setting
from canopy_search.search.forecast.likely_curves import LikelyCurves
from canopy_search.search.forecast.speed import Network
from canopy_search.search.simulation.replay import SimulatedEpoch, SimulatedPlan, simulate
from canopy_search.search.study.plan import SearchPlan
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.settings import TrainingSettings
from canopy_search.training.stage_key import stage_keys

LANDSCAPES = 40
_LEAST_LANDSCAPES = 10
# A replay of a long study takes seconds, and the user is waiting.
_REPLAY_S = 20.0


@dataclass(frozen=True)
class ReplayedSearch:
    """The result of one replay.

    Attributes:
        reported: epochs that trials reported.
        trained: network → epochs trained.
        search_s: seconds from the first trial's start to the last one's end.
        regret: final AP of the best setting in the space minus that of the best trial; None if no
            trial was fully trained.
    """

    reported: int
    trained: Mapping[Network, int]
    search_s: float
    regret: float | None


def replay_searches(
    plan: SearchPlan,
    training: TrainingSettings,
    sample: Dataset,
    epoch_s: Callable[[Network], float],
    overhead_s: Callable[[Network], float],
) -> list[ReplayedSearch]:
    """Replays the search on likely learning curves: its sampler, pruner, budget and stage tree.

    Args:
        plan: the search, with the number of its workers.
        training: its fixed settings without ``auto``.
        sample: images of the data, for stage keys.
        epoch_s: network → seconds of an epoch.
        overhead_s: network → seconds before a claimed trial trains.
    """
    space = SearchSpace(training, plan.space.distributions)
    search, stages = plan.config.search, plan.config.stages
    network_of_stage: dict[str, Network] = {}
    keys_of_point: dict[tuple[Any, ...], list[str]] = {}

    def keys(params: Mapping[str, Any]) -> list[str]:
        point = tuple(params.values())
        if point not in keys_of_point:
            settings = space.training_settings(params)
            keys_of_point[point] = stage_keys(settings, sample)
            network_of_stage.update(
                dict.fromkeys(keys_of_point[point], network_of_settings(settings))
            )
        return keys_of_point[point]

    def network(params: Params) -> Network:
        return network_of_stage[keys(params)[0]]

    simulated = SimulatedPlan(
        search.sampler,
        search.pruner,
        plan.n_trials,
        plan.workers,
        shares=stages.enabled,
        enqueue=search.enqueued,
        verify=search.verified_share,
    )
    replays: list[ReplayedSearch] = []
    started = time.monotonic()
    for seed in range(LANDSCAPES):
        if seed >= _LEAST_LANDSCAPES and time.monotonic() - started > _REPLAY_S:
            break
        curves = LikelyCurves(
            space.distributions,
            training.epochs,
            seed,
            keys,
            lambda params: epoch_s(network(dict(params))),
        )
        epochs: list[SimulatedEpoch] = []
        found = simulate(
            curves,
            simulated,
            search.seed,
            startup_s=lambda params: overhead_s(network(params)),
            on_epoch=epochs.append,
        )
        last_epochs = (each for each in epochs if each.epoch == training.epochs)
        best = max(last_epochs, key=lambda each: each.val_ap or 0.0, default=None)
        regret = None if best is None else curves.regret(best.params)
        trained = Counter(network_of_stage[stage] for stage in found.stages)
        replays.append(ReplayedSearch(found.epochs_reported, trained, found.seconds, regret))
    return replays


def network_of_settings(settings: TrainingSettings) -> Network:
    """Returns the settings of a run that determine its speed."""
    return Network(setting(settings, "backbone"), setting(settings, "batch_size"))
