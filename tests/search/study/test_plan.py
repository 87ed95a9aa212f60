"""What ``auto`` becomes when a study starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.study.plan import join_study, shared_out
from canopy_search.training import resolve
from canopy_search.training.device import precision
from canopy_search.training.device.compiling import PAYS_FROM_STEPS
from canopy_search.training.device.gpu import Gpu
from canopy_search.training.errors import SettingsError
from tests.noise_data import noise_dataset
from tests.planned import planned


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


def test_an_older_gpu_of_this_machine_takes_no_trial_that_it_cannot_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = noise_dataset(4, 4, 0)
    training = {"precision": "bf16", "threads": 1, "compile": "off"}
    config = CanopyConfig.model_validate({"data": {"demo": "digits"}, "training": training})
    started = replace(planned(config, tmp_path, "demo", 4), fingerprint=dataset.fingerprint)
    monkeypatch.setattr(resolve, "resolve_device", lambda _setting: torch.device("cuda", 0))
    nothing: Any = None  # the study needs no look into the database
    for name, capability in (("A10", (8, 6)), ("Tesla T4", (7, 5))):
        gpus = [Gpu(name, capability)]
        monkeypatch.setattr(precision, "visible_gpus", gpus.copy)
        if name == "A10":
            assert join_study(started, nothing, dataset).dataset is dataset
            continue
        with pytest.raises(SettingsError, match=name):
            join_study(started, nothing, dataset)
