"""What a study's own task should look like, and how far its mirror is."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.clearml.desired_state import DesiredTask
from canopy_search.dashboards.clearml.links import Pages
from canopy_search.dashboards.clearml.reconcile import GONE
from canopy_search.dashboards.clearml.status import mirror_summary
from canopy_search.dashboards.clearml.study_task import study_task
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.storage.study.mirror_rows import STUDY_TASK, MirroredTask, MirrorState
from tests.dashboards.summaries import study, trial, worker

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
IDS = {0: "task0", 1: "task1", 2: "task2"}


def some_trials() -> list[TrialData]:
    """Trial 2 ended first, trial 1 was pruned, trial 0 is the best."""

    def ended(number: int, state: str, epochs: int, minute: int, **params: Any) -> TrialData:
        metrics = [
            {"epoch": e + 1, "val_ap": 0.1 * (e + 1) - 0.01 * number, "train_s": 1.0, "val_s": 0.5}
            for e in range(epochs)
        ]
        return trial(
            number,
            state,
            metrics=metrics,
            val_ap=metrics[-1]["val_ap"],
            params={"backbone": "tinycnn_16", "gamma": 0.9 + 0.01 * number, **params},
            ended=NOON + timedelta(minutes=minute),
        )

    return [
        ended(0, "COMPLETE", 3, 3),
        ended(1, "PRUNED", 1, 2),
        ended(2, "COMPLETE", 3, 1),
    ]


def task(summary: StudyData, *, is_live: bool = False) -> DesiredTask:
    pages = Pages(MirrorState("server", "p", "http://web", "2.31"), IDS)
    record = {
        "data": {"labels": ["a"]},
        "training": {"epochs": 3},
        "space": {"gamma": "0.8 to 1 step 0.01"},
        "config": {"search": {"sampler": {"name": "tpe"}, "pruner": {"name": "asha"}, "seed": 0}},
    }
    data = replace(summary, record=record)
    return study_task(data, identity="canopy:0", pages=pages, is_live=is_live)


def figures(desired: DesiredTask) -> dict[str, Any]:
    return {plot.key: json.loads(plot.figure) for plot in desired.plots}


def test_it_says_what_is_searched_and_what_is_best() -> None:
    desired = task(study(some_trials(), [], target=3))
    assert desired.type == "optimizer"
    assert desired.hyperparams["search space"] == {"gamma": "0.8 to 1 step 0.01"}
    assert desired.hyperparams["search"]["sampler.name"] == "tpe"
    assert "trial 0, AP .3000" in desired.comment
    assert "http://web/projects/p/tasks/task0/output/log" in desired.comment
    assert "compare-tasks;ids=task0,task2/scalars" in desired.comment


def test_the_best_so_far_follows_the_order_in_which_trials_ended() -> None:
    desired = task(study(some_trials(), [], target=3))
    best = [(s.step, s.value) for s in desired.scalars if s.series == "max"]
    assert best == [(1, pytest.approx(0.28)), (2, pytest.approx(0.28)), (3, pytest.approx(0.3))]
    assert [line.text.split(",")[0] for line in desired.lines] == [
        "trial 2 complete",
        "trial 1 pruned",
        "trial 0 complete",
    ]


def test_tables_and_plots_of_clearml_s_own_optimizer() -> None:
    shown = figures(task(study(some_trials(), [], target=3)))
    [rows] = shown["summary/job"]["data"]
    assert rows["header"]["values"] == [
        "task id",
        "objective",
        "iteration",
        "trial",
        "backbone",
        "gamma",
        "status",
    ]
    assert rows["cells"]["values"][3] == [0, 2, 1], "the best first"
    assert 'href="http://web/projects/p/tasks/task0/output/log"' in rows["cells"]["values"][0][0]
    [parallel] = shown["Parallel Coordinates/"]["data"]
    dimensions = {each["label"]: each for each in parallel["dimensions"]}
    assert dimensions["backbone"]["ticktext"] == ["tinycnn_16"]
    assert dimensions["gamma"]["values"] == pytest.approx([0.9, 0.92, 0.91])
    assert shown["Optimization Objective/AP/val"]["data"][0]["x"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("states", "target", "workers", "is_live", "expected"),
    [
        (["COMPLETE"], 1, [], False, "completed"),
        (["COMPLETE"], 2, [worker(1, 5)], False, "in_progress"),
        (["COMPLETE"], 2, [], True, "in_progress"),
        (["COMPLETE"], 2, [], False, "stopped"),
        (["COMPLETE", "PAUSED"], 1, [worker(1)], False, "in_progress"),
        ([], 2, [], True, "in_progress"),
    ],
)
def test_states(
    states: list[str], target: int, workers: list[Any], is_live: bool, expected: str
) -> None:
    trials = [trial(number, state) for number, state in enumerate(states)]
    assert task(study(trials, workers, target=target), is_live=is_live).state == expected


def test_how_far_a_mirror_is(words: SnapshotAssertion) -> None:
    rows = {
        STUDY_TASK: MirroredTask(STUDY_TASK, "study", "in_progress"),
        0: MirroredTask(0, "task0", "completed", epochs=3),
        1: MirroredTask(1, None, problem=GONE),
        2: MirroredTask(2, "task2", "in_progress", epochs=2),
    }
    state = MirrorState("http://api", "p", "http://web", "2.31", "it does not answer", NOON)
    found = mirror_summary(study(some_trials(), [], target=3), state, rows)
    assert (found.mirrored, found.behind, found.deleted) == (1, 1, 1)
    assert found.url == "http://web/projects/p/tasks/study/output/log"
    assert set(found.trials) == {0, 2}
    text, link = found.lines()
    assert "1 trial mirrored, 1 behind; 1 deleted" in text
    assert "it does not answer" in text
    assert link.strip() == found.url
    assert re.sub(r"\d{4}-\d\d-\d\d [\d:]+", "TIME", text) == words
    json.dumps(found.as_json(), allow_nan=False)
