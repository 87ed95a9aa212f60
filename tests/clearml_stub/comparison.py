"""What Postgres says of a study against what the stub holds of it: every difference, in words.

It reads Postgres through the readers that the tables and pages use, and knows how a task should
look from the issue and not from the mirror: where the two disagree, one of them is wrong.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from optuna.trial import TrialState

from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.dashboards.study.reader import read_trials
from canopy_search.storage.study.studies import StudyStore
from tests.clearml_stub.holdings import Document

SCALAR, PLOT = "training_stats_scalar", "plot"
_STATUS = {
    TrialState.COMPLETE.name: "completed",
    TrialState.PRUNED.name: "stopped",
    TrialState.FAIL.name: "failed",
    TrialState.WAITING.name: "created",
}
_WORDS = {TrialState.FAIL.name: "failed"}
# Graph and series in which a reader looks for a number; of the others the numbers count.
_GRAPHS = {
    "val_ap": ("AP", "val"),
    "val_f1": ("f1", "val"),
    "val_f2": ("f2", "val"),
    "val_precision": ("precision", "val"),
    "val_recall": ("recall", "val"),
    "lr": ("learning rate", "lr"),
    "images_per_s": ("speed", "images per second"),
}


def differences(store: StudyStore, study: str, held: Document, project: str) -> list[str]:
    """Returns all differences; an empty list is equality.

    Args:
        store: of the database.
        study: name of the study.
        held: what the stub holds.
        project: name of the project that the study is mirrored to.
    """
    summary = read_trials(store, study)
    record = store.read_record(study) or {}
    ids = [each["id"] for each in held["projects"] if each["name"] == project]
    if len(ids) != 1:
        return [f"{len(ids)} projects are named {project}"]
    tasks = [task for task in held["tasks"] if task.get("project") == ids[0]]
    return list(_differences(summary, record, tasks))


def _differences(
    summary: StudyData, record: Mapping[str, Any], tasks: list[Document]
) -> Iterator[str]:
    named: defaultdict[str, list[Document]] = defaultdict(list)
    for task in tasks:
        named[task["name"]].append(task)
    controllers = [task for task in tasks if task["type"] == "optimizer"]
    if len(controllers) != 1:
        yield f"{len(controllers)} tasks are of type optimizer"
        return
    (controller,) = controllers
    expected = {f"{summary.name} trial {trial.number}" for trial in summary.trials}
    for name in named.keys() - expected - {controller["name"]}:
        yield f"{name}: a task that no trial has"
    yield from _of_controller(summary, record, controller)
    for trial in summary.trials:
        mine = named[f"{summary.name} trial {trial.number}"]
        if len(mine) != 1:
            yield f"trial {trial.number}: {len(mine)} tasks"
            continue
        is_best = summary.best is not None and summary.best.number == trial.number
        for difference in _of_trial(trial, record, mine[0], controller, is_best=is_best):
            yield f"trial {trial.number}: {difference}"


def _of_controller(summary: StudyData, record: Mapping[str, Any], task: Document) -> Iterator[str]:
    if summary.name not in task["name"]:
        yield f"the controller's name {task['name']!r} does not say the study's"
    is_running = any(trial.state not in _STATUS for trial in summary.trials)
    if summary.is_over and not is_running and task["status"] != "completed":
        yield f"the controller is {task['status']} and the study is over"
    shown = json.dumps([task["hyperparams"], task["configuration"]])
    for name in record.get("space", {}):
        if name not in shown:
            yield f"the controller does not say that {name} is searched"
    plots = {event["metric"] for event in task["events"] if event["type"] == PLOT}
    if summary.trials and not plots:
        yield "the controller has no plots"
    ended = [trial for trial in summary.trials if trial.state in _STATUS and trial.metrics]
    best = summary.best
    if best is not None:
        values = {event["value"] for event in task["events"] if event["type"] == SCALAR}
        if best.val_ap not in values:
            yield f"the controller's curves do not reach {best.val_ap}"
        if str(best.number) not in task.get("comment", "") and len(ended) > 0:
            yield "the controller does not name the best trial"
    yield from (f"the controller: {difference}" for difference in _of_lines(task))


def _of_trial(
    trial: TrialData,
    record: Mapping[str, Any],
    task: Document,
    controller: Document,
    *,
    is_best: bool,
) -> Iterator[str]:
    if task["type"] != "training":
        yield f"its type is {task['type']}"
    if task.get("parent") != controller["id"]:
        yield "it is no child of the controller"
    status = _STATUS.get(trial.state, "in_progress")
    if task["status"] != status:
        yield f"{task['status']} and should be {status}"
    reason = " ".join((trial.reason or "").split())
    if trial.state in _STATUS and reason not in task["status_reason"]:
        yield f"its reason is {task['status_reason']!r} and should be {reason!r}"
    if trial.state == TrialState.PRUNED.name and not task["status_reason"]:
        yield "it says no reason why it was stopped"
    settings = _settings(trial, record)
    yield from _of_params("search", trial.params, task, is_all=True)
    yield from _of_params("training", _leaves(settings), task)
    yield from _of_params("data", _leaves(record.get("data", {})), task)
    if record and "settings" not in json.dumps(task["configuration"]):
        yield "its configuration lacks the settings"
    yield from _of_tags(trial, settings, task, is_best=is_best)
    yield from _of_scalars(trial, task)
    yield from _of_lines(task)
    per_label = trial.metrics and trial.metrics[-1].get("val_ap_per_label")
    plots = [e for e in task["events"] if e["type"] == PLOT and e["metric"] == "AP per label"]
    if per_label:
        if not plots:
            yield "it has no plot of the AP of each label"
        yield from (
            f"label {label} is in no plot"
            for label in per_label
            if not any(label in plot["plot_str"] for plot in plots)
        )


def _of_params(
    section: str, values: Mapping[str, Any], task: Document, *, is_all: bool = False
) -> Iterator[str]:
    shown = task["hyperparams"].get(section, {})
    for name, value in values.items():
        if name not in shown:
            yield f"{section}.{name} is missing"
        elif not _says(shown[name]["value"], value):
            yield f"{section}.{name} is {shown[name]['value']!r} and should be {value!r}"
    for name in shown.keys() - values.keys() if is_all else ():
        yield f"{section}.{name} should not be there"


def _of_tags(
    trial: TrialData, settings: Mapping[str, Any], task: Document, *, is_best: bool
) -> Iterator[str]:
    wanted = [settings.get("backbone"), settings.get("loss")]
    wanted.append(_WORDS.get(trial.state, trial.state.lower()))
    yield from (f"tag {tag} is missing" for tag in wanted if tag and tag not in task["tags"])
    if is_best != ("best" in task["tags"]):
        yield f"tag best is {'missing' if is_best else 'wrong'}"
    states = {"complete", "pruned", "failed", "running", "paused", "waiting", "interrupted"}
    if len(states & set(task["tags"])) > 1:
        yield f"tags of several states: {task['tags']}"


def _of_scalars(trial: TrialData, task: Document) -> Iterator[str]:
    held: defaultdict[int, dict[tuple[str, str], float]] = defaultdict(dict)
    for event in task["events"]:
        if event["type"] == SCALAR:
            held[event["iter"]][event["metric"], event["variant"]] = event["value"]
    epochs = {metrics["epoch"]: metrics for metrics in trial.metrics}
    for epoch in held.keys() - epochs.keys():
        yield f"scalars of an epoch {epoch} that it has not reported"
    for epoch, metrics in epochs.items():
        numbers = {name: value for name, value in metrics.items() if _is_scalar(name, value)}
        for name, value in numbers.items():
            graph = _GRAPHS.get(name)
            if name.endswith("_loss"):
                graph = ("loss", name.partition("_")[0])
            if graph and held[epoch].get(graph) != value:
                yield f"epoch {epoch}: {graph} is {held[epoch].get(graph)}, should be {value}"
        if difference := _unequal(held[epoch].values(), numbers.values()):
            yield f"epoch {epoch}: {difference}"


def _of_lines(task: Document) -> Iterator[str]:
    counts = Counter((line["timestamp"], line["msg"]) for line in task["logs"])
    yield from (f"line {msg!r} came {n} times" for (_, msg), n in counts.items() if n > 1)
    if task["type"] == "training":
        epochs = {e["iter"] for e in task["events"] if e["type"] == SCALAR}
        said = [line["msg"] for line in task["logs"]]
        for epoch in epochs:
            if not any(f"epoch {epoch}" in line for line in said):
                yield f"its log has no line of epoch {epoch}"


def _settings(trial: TrialData, record: Mapping[str, Any]) -> dict[str, Any]:
    settings = json.loads(json.dumps(record.get("training", {})))
    for name, value in trial.params.items():
        *sections, key = name.split(".")
        place = settings
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return dict(settings)


def _leaves(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict) and value:
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _says(text: str, value: Any) -> bool:
    """Whether a text of ClearML's table is this value, exactly."""
    if isinstance(value, str):
        return text == value
    try:
        return bool(json.loads(text) == value)
    except ValueError:
        return False


def _is_scalar(name: str, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return name != "epoch" and is_number and math.isfinite(value)


def _unequal(held: Iterable[float], wanted: Iterable[float]) -> str:
    left, right = Counter(map(float, held)), Counter(map(float, wanted))
    extra, missing = left - right, right - left
    return f"{sorted(extra)} too many, {sorted(missing)} missing" if extra or missing else ""
