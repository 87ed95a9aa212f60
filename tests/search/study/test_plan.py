"""What ``auto`` becomes when a study starts."""

import pytest
import torch

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.study.plan import shared_out
from canopy_search.training import resolve
from canopy_search.training.device.compiling import PAYS_FROM_STEPS


@pytest.mark.parametrize(
    ("pruner", "epochs_at_once"),
    [
        ({"name": "branches"}, 1),
        ({"name": "asha", "min_epochs": 3}, 3),
        ({"name": "none"}, 8),
        ({"name": "median"}, 8),
    ],
)
def test_compiling_pays_by_the_epochs_before_a_trial_pauses(
    pruner: dict[str, object], epochs_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "resolve_device", lambda _setting: torch.device("cuda", 0))
    config = CanopyConfig.model_validate(
        {
            "data": {"demo": "digits"},
            "training": {"epochs": 8, "batch_size": 1, "precision": "fp32"},
            "search": {"pruner": pruner},
        }
    )
    enough = -(-PAYS_FROM_STEPS // epochs_at_once)
    assert shared_out(config.training, config, 1, enough).compile == "on"
    assert shared_out(config.training, config, 1, enough - 1).compile == "off"
