"""The comparison that other tests trust sees each kind of difference."""

import copy
from collections.abc import Callable
from typing import Any

from optuna.trial import TrialState

from tests.clearml_stub.comparison import differences
from tests.clearml_stub.server import Stub
from tests.dashboards.clearml.conftest import STUDY
from tests.dashboards.clearml.growing_study import GrowingStudy
from tests.dashboards.clearml.mirror_here import PROJECT, MirrorHere

Task = dict[str, Any]


def value_of(task: Task, place: str) -> Task:
    section, name = place.split(".", 1)
    found: Task = task["hyperparams"][section][name]
    return found


# What is done to the task of trial 0, which is the best one → what is said of it.
TAMPERING: dict[str, Callable[[Task], object]] = {
    "failed and should be completed": lambda task: task.update(status="failed"),
    "its type is testing": lambda task: task.update(type="testing"),
    "it is no child of the controller": lambda task: task.update(parent=None),
    "search.gamma is '0.5' and should be": lambda task: value_of(task, "search.gamma").update(
        value="0.5"
    ),
    "search.x should not be there": lambda task: task["hyperparams"]["search"].update(x={}),
    "training.epochs is missing": lambda task: task["hyperparams"]["training"].pop("epochs"),
    "data.image_px is missing": lambda task: task["hyperparams"]["data"].pop("image_px"),
    "its configuration lacks the settings": lambda task: task.update(configuration={}),
    "tag bce is missing": lambda task: task["tags"].remove("bce"),
    "tag best is missing": lambda task: task["tags"].remove("best"),
    "tags of several states": lambda task: task["tags"].append("pruned"),
    "epoch 2: ": lambda task: task["events"].remove(
        next(e for e in task["events"] if e.get("value") and e["iter"] == 2)
    ),
    "scalars of an epoch 9": lambda task: task["events"].append(
        {"type": "training_stats_scalar", "metric": "x", "variant": "y", "iter": 9, "value": 1.0}
    ),
    "came 2 times": lambda task: task["logs"].append(task["logs"][0]),
    "its log has no line of epoch 1": lambda task: task["logs"].clear(),
    "it has no plot of the AP of each label": lambda task: task.update(
        events=[event for event in task["events"] if event["type"] != "plot"]
    ),
}


def test_each_difference_is_said(
    stub: Stub,
    new_study: Callable[[int], GrowingStudy],
    new_mirror: Callable[..., MirrorHere],
) -> None:
    study = new_study(2)
    study.run()
    study.run(1, TrialState.PRUNED)
    new_mirror().once()
    whole = stub.snapshot()
    project = PROJECT.format(study=STUDY)

    def unlike(held: dict[str, Any]) -> list[str]:
        return differences(study.store, STUDY, held, project)

    assert unlike(whole) == []
    for said, tamper in TAMPERING.items():
        held = copy.deepcopy(whole)
        (task,) = [each for each in held["tasks"] if each["name"] == f"{STUDY} trial 0"]
        tamper(task)
        assert any(said in difference for difference in unlike(held)), said

    (pruned,) = [each for each in whole["tasks"] if each["name"] == f"{STUDY} trial 1"]
    (controller,) = [each for each in whole["tasks"] if each["type"] == "optimizer"]
    others = [each for each in whole["tasks"] if each is not pruned]
    for tasks, said in (
        (others, "trial 1: 0 tasks"),
        ([*whole["tasks"], pruned], "trial 1: 2 tasks"),
        ([*others, pruned | {"status_reason": "tired"}], "trial 1: its reason is 'tired'"),
        ([*whole["tasks"], pruned | {"name": "a stray"}], "a stray: a task that no trial has"),
        ([each for each in whole["tasks"] if each is not controller], "0 tasks are of type"),
        ([*whole["tasks"], controller], "2 tasks are of type optimizer"),
    ):
        found = unlike({**whole, "tasks": tasks})
        assert any(said in difference for difference in found), (said, found)
    assert unlike({**whole, "projects": []}) == [f"0 projects are named {project}"]
