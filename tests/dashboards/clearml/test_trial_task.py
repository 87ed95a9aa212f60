"""What a trial's task should look like."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from canopy_search.dashboards.clearml.desired_state import (
    FINAL,
    PASSING_TAGS,
    DesiredTask,
    digest,
    identity_tag,
    one_line,
    text_of,
)
from canopy_search.dashboards.clearml.trial_task import graph_of, trial_task
from canopy_search.dashboards.study.model import TrialData
from canopy_search.storage.study.epochs import EpochRecord
from tests.dashboards.summaries import study

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
RECORD = {
    "data": {"fingerprint": "f" * 8, "labels": ["clear", "road"]},
    "training": {"backbone": "tinycnn_8", "loss": "bce", "epochs": 3, "optimizer": {"lr": 0.001}},
    "config": {"data": {"image_px": 16}},
}


def trial(state: str = "COMPLETE", epochs: int = 2, **changes: Any) -> TrialData:
    metrics = [
        {
            "epoch": epoch,
            "lr": 0.001,
            "train_focal_loss": 0.5 / epoch,
            "val_ap": 0.1 * epoch,
            "val_focal_loss": math.nan if epoch == 1 else 0.4,
            "val_f1": None,
            "val_ap_per_label": {"clear": 0.1 * epoch, "road": None},
            "train_s": 2.0,
            "val_s": 1.0,
            "images_per_s": 100,
        }
        for epoch in range(1, epochs + 1)
    ]
    made = TrialData(
        number=7,
        state=state,
        params={"loss": "focal", "optimizer.lr": 0.01},
        val_ap=metrics[-1]["val_ap"] if metrics else None,
        reason=None,
        metrics=metrics,
        epochs_trained=epochs,
        began=BEGAN,
        ended=BEGAN + timedelta(minutes=1) if state in {"COMPLETE", "PRUNED", "FAIL"} else None,
        stages=tuple(
            EpochRecord(epoch, each, 1, BEGAN + timedelta(seconds=epoch))
            for epoch, each in enumerate(metrics, start=1)
        ),
    )
    return replace(made, **changes)


def task(of: TrialData, *, is_best: bool = False) -> DesiredTask:
    best = replace(trial(), number=of.number if is_best else 8, val_ap=0.9)
    return trial_task(of, replace(study([best], []), record=RECORD), identity="canopy:1")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("COMPLETE", "completed"),
        ("PRUNED", "stopped"),
        ("FAIL", "failed"),
        ("RUNNING", "in_progress"),
        ("PAUSED", "in_progress"),
        ("INTERRUPTED", "in_progress"),
        ("WAITING", "created"),
    ],
)
def test_states(state: str, expected: str) -> None:
    desired = task(trial(state))
    assert desired.state == expected
    assert (desired.state in FINAL) == any("epoch" not in line.text for line in desired.lines[1:])


def test_every_finite_number_is_a_point_of_the_graph_that_it_belongs_to() -> None:
    points = {(s.group, s.series, s.step): s.value for s in task(trial()).scalars}
    assert points["AP", "val", 2] == 0.2
    assert points["loss", "train", 1] == 0.5
    assert points["loss", "val", 2] == 0.4
    assert points["learning rate", "lr", 1] == 0.001
    assert points["speed", "images per second", 2] == 100
    assert ("loss", "val", 1) not in points, "it is no number"
    assert not any(group == "f1" for group, _, _ in points)
    assert all(s.at_ms == round((BEGAN.timestamp() + s.step) * 1000) for s in task(trial()).scalars)


@pytest.mark.parametrize(
    ("metric", "graph"),
    [
        ("val_ap", ("AP", "val")),
        ("val_weighted_bce_loss", ("loss", "val")),
        ("train_asymmetric_loss", ("loss", "train")),
        ("val_labels_without_positives", ("labels without positives", "val")),
        ("train_s", ("seconds", "train")),
        ("odd", ("odd", "odd")),
    ],
)
def test_graphs(metric: str, graph: tuple[str, str]) -> None:
    assert graph_of(metric) == graph


def test_settings_are_the_study_s_and_what_the_trial_varies() -> None:
    sections = task(trial()).hyperparams
    assert sections["search"] == {"loss": "focal", "optimizer.lr": "0.01"}
    assert sections["training"]["loss"] == "focal"
    assert sections["training"]["optimizer.lr"] == "0.01"
    assert sections["training"]["epochs"] == "3"
    assert sections["data"] == {"fingerprint": "f" * 8, "labels": '["clear", "road"]'}
    assert RECORD["training"]["optimizer"] == {"lr": 0.001}, "the record is as it was"
    assert '"lr": 0.01' in task(trial()).configuration["settings"][1]


def test_tags_and_reason() -> None:
    pruned = trial("PRUNED", reason="asha: hopeless\x1b[31m\nat epoch 4")
    desired = task(pruned, is_best=False)
    assert desired.tags == ("canopy:1", "tinycnn_8", "focal", "pruned")
    assert desired.reason == "asha: hopeless[31m at epoch 4"
    assert task(trial("PRUNED")).reason, "why a task is stopped is always said"
    assert task(trial("FAIL")).tags[-1] == "failed"
    assert task(trial(), is_best=True).tags[-1] == "best"
    assert task(trial("WAITING", 0, params={})).tags == ("canopy:1", "waiting")


def test_every_tag_that_may_pass_is_known_to_pass() -> None:
    states = ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "PAUSED", "INTERRUPTED", "WAITING")
    for state in states:
        assert set(task(trial(state), is_best=True).tags[-2:]) <= PASSING_TAGS


def test_labels_without_a_positive_example_are_in_the_table_alone() -> None:
    bars, rows = (plot.figure for plot in task(trial()).plots)
    assert "clear" in bars
    assert "road" not in bars
    assert "road" in rows


def test_lines_only_grow() -> None:
    running, ended = task(trial("RUNNING", 1)), task(trial("COMPLETE", 2))
    assert ended.lines[: len(running.lines)] == running.lines
    assert [line.text.split("  ")[0] for line in ended.lines[1:3]] == [
        "epoch 1 of 3",
        "epoch 2 of 3",
    ]


def test_a_study_that_canopy_did_not_begin_has_no_more_than_its_trials() -> None:
    desired = trial_task(trial(), study([trial()], []), identity="canopy:1")
    assert set(desired.hyperparams) == {"search", "training"}
    assert desired.configuration == {}
    assert len(desired.name) >= 3


def test_parts_change_when_what_they_are_of_changes() -> None:
    before, after = task(trial()).parts, task(trial(params={"loss": "bce"})).parts
    changed = {name for name, value in before.items() if after[name] != value}
    assert changed == {"hyperparams", "configuration"}


def test_identities_differ_by_database_study_and_trial() -> None:
    tags = {identity_tag(*each) for each in (("a", 1, 1), ("b", 1, 1), ("a", 2, 1), ("a", 1, 2))}
    assert len(tags) == 4
    assert identity_tag("a", 1, 1) == identity_tag("a", 1, 1)


def test_values_as_a_table_shows_them() -> None:
    shown = [text_of(value) for value in ("x", 0.97, 3, True, None, [1, "ä"])]
    assert shown == ["x", "0.97", "3", "true", "null", '[1, "ä"]']
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert len(one_line("x" * 5000)) == 1000
