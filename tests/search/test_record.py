import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.errors import StudyDiffersError
from search.record import (
    check_same_study,
    fixed_settings,
    git_state,
    resolved_as_before,
    study_record,
)
from search.settings import CanopyConfig
from search.space import parse_space
from training.settings import TrainingSettings

RESOLVED = {"device": "cuda:1", "precision": "bf16", "threads": 4, "compile": "on"}


def record(fingerprint: str = "f" * 64, **training: Any) -> dict[str, Any]:
    config = CanopyConfig.model_validate(
        {
            "data": {"demo": "digits"},
            "training": training,
            "search": {"space": {"loss": ["bce", "focal"]}},
            "provenance": {"secret_key": "hunter2"},
            "clearml": {"project": "Planet"},
        }
    )
    space = parse_space(config.search, config.training)
    resolved = config.training.model_copy(update=RESOLVED | training)
    dataset: Any = SimpleNamespace(fingerprint=fingerprint, labels=("clear", "water"), left_out=())
    return study_record(config, space, resolved, dataset)


def test_a_record_is_json_and_holds_no_secret() -> None:
    assert "hunter2" not in json.dumps(record())


def test_a_study_goes_on_with_what_it_began_with() -> None:
    check_same_study("planet", record(), record())
    # What is searched is not fixed, and which GPU it was changes no number.
    check_same_study("planet", record(loss="bce"), record(loss="focal"))
    assert record()["training"]["device"] == "cuda"


def test_a_study_of_an_earlier_version_goes_on_with_the_defaults_of_newer_settings() -> None:
    before = record()
    del before["data"]["columns"], before["data"]["left_out"]
    del before["data"]["split"]["column"], before["data"]["split"]["group"]
    check_same_study("planet", before, record())


def test_other_versions_are_told_with_what_to_install() -> None:
    now, before = record(), record()
    before["versions"] |= {"torch": "2.0.0", "engine": 7, "canopy-search": "0.0.9", "numpy": "1"}
    with pytest.raises(StudyDiffersError) as caught:
        check_same_study("planet", before, now)
    lines = str(caught.value).splitlines()
    assert lines[0] == "study 'planet' began with other versions, which give other numbers:"
    assert lines[1] == f"  torch: 2.0.0 in the study, {now['versions']['torch']} here"
    assert lines[2].startswith("  engine: 7 in the study, ")
    assert "pip install torch==2.0.0 canopy-search==0.0.9" in lines[3]
    assert len(lines) == 4


def test_a_study_that_recorded_no_engine_goes_on() -> None:
    before = record()
    del before["versions"]["engine"]
    check_same_study("planet", before, record())


def test_every_difference_has_a_line() -> None:
    with pytest.raises(StudyDiffersError) as caught:
        check_same_study("planet", record(epochs=8), record(epochs=9, fingerprint="0" * 64))
    lines = str(caught.value).splitlines()
    assert lines[0] == "study 'planet' began with other data or settings:"
    assert lines[2] == "  training.epochs: 8 in the study, 9 now"
    assert lines[1].startswith("  data.fingerprint: fff")
    assert "--study" in lines[-1]
    assert len(lines) == 4


def test_auto_means_what_it_meant_when_the_study_began() -> None:
    settings = TrainingSettings(precision="fp32")
    resolved = resolved_as_before(settings, record())
    assert (resolved.device, resolved.precision, resolved.threads) == ("cuda", "fp32", 4)
    assert resolved.compile == "on"


def test_a_study_that_began_before_networks_were_compiled_goes_on_without() -> None:
    before = record()
    del before["training"]["compile"]
    del before["training"]["device_cache"]
    assert resolved_as_before(TrainingSettings(), before).compile == "off"
    assert fixed_settings(before).compile == "off"
    check_same_study("planet", before, record(compile="off"))
    with pytest.raises(StudyDiffersError, match=r"training\.compile: off in the study, on now"):
        check_same_study("planet", before, record())


def test_where_the_images_lie_may_change() -> None:
    check_same_study("planet", record(device_cache="off"), record(device_cache="on"))


def test_a_folder_outside_of_git_has_no_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
