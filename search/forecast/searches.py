"""How many epochs of which network a search trains: it is replayed on likely curves."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from canopy_search.search.config.space import Params, SearchSpace, setting
from canopy_search.search.forecast.likely_curves import LikelyCurves
from canopy_search.search.forecast.speed import Network
from canopy_search.search.simulation.replay import SimulatedEpoch, simulate
from canopy_search.search.study.plan import SearchPlan
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.settings import TrainingSettings
from canopy_search.training.stage_key import stage_keys

LANDSCAPES = 40
_LEAST_LANDSCAPES = 10
# Long studies take seconds each; a person waits for this.
_REPLAY_S = 20.0


@dataclass(frozen=True)
class ReplayedSearch:
    """What one replay came to.

    Attributes:
        reported: epochs that trials reported.
        trained: network → epochs that were trained.
        search_s: from the first trial's start to the last one's end.
        regret: how much better than the answer the best setting of the space ends; None if no trial
            was fully trained.
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
    walk_s: Callable[[Network], float],
) -> list[ReplayedSearch]:
    """Replays the search on likely learning curves: its sampler, pruner, budget and stage tree.

    Args:
        plan: the search, with the number of its workers.
        training: its fixed settings without ``auto``.
        sample: images of the data, for stage keys.
        epoch_s: network → seconds of an epoch.
        walk_s: network → seconds before a trial that is taken up trains.
    """
    space = SearchSpace(training, plan.space.distributions)
    search, stages = plan.config.search, plan.config.stages
    network_of: dict[str, Network] = {}
    known: dict[tuple[Any, ...], list[str]] = {}

    def keys(params: Mapping[str, Any]) -> list[str]:
        point = tuple(params.values())
        if point not in known:
            settings = space.training_settings(params)
            known[point] = stage_keys(settings, sample)
            network_of.update(dict.fromkeys(known[point], network_of_settings(settings)))
        return known[point]

    def network(params: Params) -> Network:
        return network_of[keys(params)[0]]

    replays: list[ReplayedSearch] = []
    began = time.monotonic()
    for seed in range(LANDSCAPES):
        if seed >= _LEAST_LANDSCAPES and time.monotonic() - began > _REPLAY_S:
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
            search.sampler,
            search.pruner,
            n_trials=plan.n_trials,
            seed=search.seed,
            workers=plan.workers,
            shares=stages.enabled,
            enqueue=search.enqueued,
            walk_s=lambda params: walk_s(network(params)),
            on_epoch=epochs.append,
            verify=search.verified_share,
        )
        ends = (each for each in epochs if each.epoch == training.epochs)
        best = max(ends, key=lambda each: each.val_ap or 0.0, default=None)
        regret = None if best is None else curves.regret(best.params)
        trained = Counter(network_of[stage] for stage in found.stages)
        replays.append(ReplayedSearch(found.epochs_reported, trained, found.seconds, regret))
    return replays


def network_of_settings(settings: TrainingSettings) -> Network:
    """Returns what of a run's settings decides about its speed."""
    return Network(setting(settings, "backbone"), setting(settings, "batch_size"))
