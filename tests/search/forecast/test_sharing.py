"""What two trials share that differ in one setting alone, row by row of docs/stages.md."""

from typing import Any

import pytest

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.config.space import parse_space
from canopy_search.search.forecast.sharing import shared_epochs
from tests.noise_data import noise_dataset
from tests.reading_docs import ROOT

HEADER = "| two trials that differ in | share |"
TRAINING = {
    **{"device": "cpu", "precision": "fp32", "threads": 1, "compile": "off"},
    **{"epochs": 20, "batch_size": 4},
}
WSD = {"schedule": {"name": "wsd", "warmup_epochs": 1}}
COSINE = {"schedule": {"name": "cosine", "warmup_epochs": 2}}
ONE_CYCLE = {"schedule": {"name": "one_cycle", "warmup_epochs": 3}}
DECAY = {"optimizer": {"weight_decay": 0.1}}

Case = tuple[dict[str, Any], str, list[Any], str]
"""Settings in common, the setting that is searched, its values, and what is shared."""

ROWS: dict[str, list[Case]] = {
    "`backbone`, `weights`, `loss`, `batch_size`, `seed`, `optimizer`, `clip_norm`": [
        ({}, "backbone", ["tinycnn_8", "tinycnn_16"], "nothing"),
        ({}, "weights", ["none", "imagenet"], "nothing"),
        ({}, "loss", ["bce", "focal"], "nothing"),
        ({}, "batch_size", [4, 8], "nothing"),
        ({}, "seed", [0, 1], "nothing"),
        ({}, "optimizer.lr", [0.1, 0.2], "nothing"),
        (DECAY, "optimizer.decay_norms_and_biases", [True, False], "nothing"),
        ({}, "clip_norm", [None, 1.0], "nothing"),
    ],
    "`ema`, `head_lr_factor`, `head_bias`": [
        ({}, "ema", [None, 0.9, 0.99], "nothing"),
        ({}, "head_lr_factor", [1.0, 10.0], "nothing"),
        ({}, "head_bias", ["default", "priors"], "nothing"),
    ],
    "`gamma`": [({}, "gamma", [0.8, 0.9, 1.0], "a trunk of 1 epoch")],
    "`schedule.name`": [
        (WSD, "schedule.name", ["constant", "wsd"], "a trunk of 16 epochs"),
        (COSINE, "schedule.name", ["constant", "cosine"], "a trunk of 2 epochs"),
        (COSINE, "schedule.name", ["constant", "one_cycle"], "nothing"),
    ],
    "`schedule.warmup_epochs`": [(WSD, "schedule.warmup_epochs", [1.0, 2.0], "nothing")],
    "`schedule.decay_epochs`": [
        (WSD, "schedule.decay_epochs", [2.0, 8.0], "a trunk of 12 epochs"),
        (COSINE, "schedule.decay_epochs", [2.0, 8.0], "everything"),
    ],
    "`schedule.final_factor`": [
        (WSD, "schedule.final_factor", [0.0, 0.1], "a trunk of 16 epochs"),
        (COSINE, "schedule.final_factor", [0.0, 0.1], "a trunk of 2 epochs"),
        (ONE_CYCLE, "schedule.final_factor", [0.0, 0.1], "a trunk of 3 epochs"),
        ({}, "schedule.final_factor", [0.0, 0.1], "everything"),
    ],
    "`epochs`": [
        ({"gamma": 0.9}, "epochs", [10, 20], "everything"),
        (WSD, "epochs", [10, 20], "a trunk of 6 epochs"),
        (COSINE, "epochs", [10, 20], "a trunk of 2 epochs"),
        (ONE_CYCLE, "epochs", [10, 20], "a trunk of 3 epochs"),
    ],
    "`freeze_epochs`": [
        ({}, "freeze_epochs", [2, 5], "a trunk of 2 epochs"),
        ({}, "freeze_epochs", [0, 5], "nothing"),
    ],
    "`layer_decay`": [
        ({"freeze_epochs": 3}, "layer_decay", [0.7, 0.9, 1.0], "a trunk of 3 epochs"),
        ({}, "layer_decay", [0.7, 1.0], "nothing"),
    ],
    "what the run does not read": [
        ({}, "focal.gamma", [1.0, 2.0], "everything"),
        ({}, "optimizer.momentum", [0.5, 0.9], "everything"),
        ({}, "optimizer.decay_norms_and_biases", [True, False], "everything"),
        ({}, "device_cache", ["off", "on"], "everything"),
    ],
}


def shared(training: dict[str, Any], space: dict[str, Any]) -> dict[str, str]:
    """Returns what trials of a space share."""
    config = CanopyConfig.model_validate(
        {
            "data": {"demo": "digits"},
            "training": TRAINING | training,
            "search": {"space": space},
        }
    )
    found = parse_space(config.search, config.training)
    return shared_epochs(found, noise_dataset(train=40, validation=3, test=1))


def documented() -> dict[str, str]:
    """Returns the rows of the table in docs/stages.md."""
    page = (ROOT / "docs" / "stages.md").read_text()
    table = page[page.index(HEADER) :].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return dict(rows)


@pytest.mark.parametrize("row", ROWS)
def test_stages_are_shared_as_the_table_says(row: str) -> None:
    says = documented()[row]
    for training, name, values, expected in ROWS[row]:
        assert shared(training, {name: values}) == {name: expected}
        assert expected.partition(" of ")[0] in says


def test_the_table_has_no_other_rows() -> None:
    assert documented().keys() == ROWS.keys()


def test_what_depends_on_another_searched_setting_is_said() -> None:
    space = {"schedule.name": ["constant", "wsd"], "schedule.final_factor": [0.0, 0.1]}
    assert shared({}, space) == {
        "schedule.name": "a trunk of 16 epochs",
        "schedule.final_factor": "a trunk of 16 epochs or everything",
    }


def test_a_range_is_compared_at_its_ends() -> None:
    assert shared({}, {"gamma": {"low": 0.8, "high": 1.0, "step": 0.01}}) == {
        "gamma": "a trunk of 1 epoch"
    }


def test_a_setting_with_one_value_shares_everything() -> None:
    assert shared({}, {"loss": ["bce"]}) == {"loss": "everything"}
