import json
import subprocess
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.config.space import parse_space
from canopy_search.search.errors import StudyDiffersError
from canopy_search.search.study.record import (
    check_same_study,
    fixed_settings,
    git_state,
    resolved_as_before,
    study_record,
)
from canopy_search.training.settings import TrainingSettings

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
    dataset: Any = SimpleNamespace(fingerprint=fingerprint, labels=("clear", "water"), skipped=())
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


def test_weights_files_are_compared_by_content_wherever_they_are(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    for name, content in {"a.pth": b"1", "b.pth": b"1", "c.pth": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    same, too, other = (record(weights=str(tmp_path / f"{name}.pth")) for name in "abc")
    check_same_study("planet", same, too)
    with pytest.raises(StudyDiffersError) as caught:
        check_same_study("planet", same, other)
    assert str(caught.value) == words
    before = record()
    del before["weights"]  # of an earlier version
    check_same_study("planet", before, record())


def test_the_version_of_timm_counts_where_it_is_used() -> None:
    assert "timm" not in record()["versions"]
    before = record(backbone="timm/test_resnet")
    before["versions"]["timm"] = "0.1"
    with pytest.raises(StudyDiffersError) as caught:
        check_same_study("planet", before, record(backbone="timm/test_resnet"))
    assert "timm==0.1" in str(caught.value)


def test_other_versions_are_told_with_what_to_install(words: SnapshotAssertion) -> None:
    now, before = record(), record()
    before["versions"] |= {"torch": "2.0.0", "engine": 7, "canopy-search": "0.0.9", "numpy": "1"}
    with pytest.raises(StudyDiffersError) as caught:
        check_same_study("planet", before, now)
    lines = str(caught.value).splitlines()
    assert "torch==2.0.0 canopy-search==0.0.9" in lines[3]
    assert len(lines) == 4
    here = {name: str(now["versions"][name]) for name in ("torch", "engine")}
    assert here["torch"] in lines[1]
    assert here["engine"] in lines[2]
    assert [
        lines[0],
        lines[1].replace(here["torch"], "HERE"),
        lines[2].replace(f" {here['engine']} ", " HERE "),
        lines[3],
    ] == words


def test_a_study_that_recorded_no_engine_goes_on() -> None:
    before = record()
    del before["versions"]["engine"]
    check_same_study("planet", before, record())


def test_every_difference_has_a_line(words: SnapshotAssertion) -> None:
    with pytest.raises(StudyDiffersError) as caught:
        check_same_study("planet", record(epochs=8), record(epochs=9, fingerprint="0" * 64))
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:3]] == [
        "data.fingerprint",
        "training.epochs",
    ]
    assert lines == words
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
    with pytest.raises(StudyDiffersError, match=r"training\.compile: off .*, on "):
        check_same_study("planet", before, record())


def test_where_the_images_lie_may_change() -> None:
    check_same_study("planet", record(device_cache="off"), record(device_cache="on"))


def test_a_folder_outside_of_git_has_no_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None


def test_a_repository_runs_no_program_of_its_own(tmp_path: Path) -> None:
    run = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True)
    run(["git", "init"])
    (tmp_path / "file").write_text("text")
    run(["git", "add", "file"])
    author = ["-c", "user.name=A", "-c", "user.email=a@example"]
    run(["git", *author, "commit", "-m", "first"])
    monitor = tmp_path / "monitor"
    monitor.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    monitor.chmod(0o700)
    run(["git", "config", "core.fsmonitor", str(monitor)])
    (tmp_path / "file").write_text("changed")

    state = git_state(tmp_path)

    assert state is not None
    assert state["changed"]
    assert not (tmp_path / "ran").exists()
