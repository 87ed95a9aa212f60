from pathlib import Path
from typing import Any

import pytest

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.forecast import searches
from canopy_search.search.forecast.searches import ReplayedSearch, replay_searches
from canopy_search.search.forecast.speed import Network
from canopy_search.training.resolve import resolve_settings
from tests.noise_data import noise_dataset
from tests.planned import planned

LANDSCAPES, EPOCHS = 3, 4


@pytest.fixture(autouse=True)
def few_landscapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "LANDSCAPES", LANDSCAPES)


def replayed(
    home: Path, space: dict[str, Any], n_trials: int = 6, **sections: Any
) -> list[ReplayedSearch]:
    document = {
        "data": {"demo": "digits"},
        "training": {"epochs": EPOCHS, "backbone": "tinycnn_8", "device": "cpu", "threads": 1},
        **sections,
    }
    document["search"] = {"space": space, "pruner": {"name": "none"}} | sections.get("search", {})
    config = CanopyConfig.model_validate(document)
    plan = planned(config, home, "planned", n_trials)
    epoch_s = {"tinycnn_8": 1.0, "tinycnn_16": 10.0}
    return replay_searches(
        plan,
        resolve_settings(config.training),
        noise_dataset(8, 4, 0),
        lambda network: epoch_s[network.backbone],
        lambda _network: 0.25,
    )


def test_without_anything_to_share_it_is_trials_times_epochs(tmp_path: Path) -> None:
    found = replayed(tmp_path, {"seed": {"low": 0, "high": 10**9}})
    assert len(found) == LANDSCAPES
    for replay in found:
        assert replay.reported == 6 * EPOCHS
        assert replay.trained == {Network("tinycnn_8", 64): 6 * EPOCHS}
        assert replay.search_s == pytest.approx(6 * EPOCHS * 1.0 + 6 * 0.25)


def test_what_trials_share_is_trained_once(tmp_path: Path) -> None:
    space = {"gamma": {"low": 0.8, "high": 1.0, "step": 0.1}}
    for replay in replayed(tmp_path, space, search={"sampler": {"name": "grid"}}):
        # Three gammas have one first epoch.
        assert (replay.reported, sum(replay.trained.values())) == (3 * EPOCHS, 1 + 3 * (EPOCHS - 1))
    for replay in replayed(tmp_path, space, n_trials=3, stages={"enabled": False},
                           search={"sampler": {"name": "grid"}}):  # fmt: skip
        assert sum(replay.trained.values()) == 3 * EPOCHS


def test_each_network_has_its_time_and_what_is_enqueued_is_tried(tmp_path: Path) -> None:
    space = {"backbone": ["tinycnn_8", "tinycnn_16"], "batch_size": [32, 64]}
    enqueued = [{"backbone": "tinycnn_16", "batch_size": 32}]
    for replay in replayed(tmp_path, space, n_trials=1, search={"enqueue": enqueued}):
        assert replay.trained == {Network("tinycnn_16", 32): EPOCHS}
        assert replay.search_s == pytest.approx(EPOCHS * 10.0 + 0.25)
