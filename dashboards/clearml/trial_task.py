"""A trial → the desired state of its task in ClearML."""

from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from typing import Any

from optuna.trial import TrialState

from canopy_search.dashboards.clearml.desired_state import (
    BEST_TAG,
    DesiredTask,
    LogLine,
    Plot,
    Scalar,
    is_number,
    json_text,
    long_enough,
    milliseconds,
    one_line,
    state_word,
    task_state,
    texts_of,
)
from canopy_search.dashboards.clearml.plots import label_plots
from canopy_search.dashboards.formatting.values import ap_text, duration_text, params_text
from canopy_search.dashboards.study.model import StudyData, TrialData, training_s
from canopy_search.dashboards.study.settings import flat

_SPLITS = ("train", "val")
# Metrics whose names are not split_measure → title of the graph, and series.
_OTHERS = {
    "lr": ("learning rate", "lr"),
    "images_per_s": ("speed", "images per second"),
    "train_s": ("seconds", "train"),
    "val_s": ("seconds", "val"),
    "wait_s": ("seconds", "waiting for data"),
    "peak_memory_mib": ("memory", "peak MiB"),
}

Record = Mapping[str, Any]


def trial_task(
    trial: TrialData, data: StudyData, *, identity: str, extra_plots: tuple[Plot, ...] = ()
) -> DesiredTask:
    """Returns the desired state of a trial's task.

    Args:
        trial: the trial in its current state.
        data: its study.
        identity: tag of the task.
        extra_plots: figures that need more than the trial.
    """
    record, best = data.record, data.best
    settings = training_settings(trial, record)
    # The settings of a waiting trial are not chosen yet.
    named = () if trial.state == TrialState.WAITING.name else ("backbone", "loss")
    described = [str(settings[key]) for key in named if settings.get(key)]
    is_best = best is not None and best.number == trial.number
    tags = [identity, *described, state_word(trial), *([BEST_TAG] if is_best else [])]
    default_reason = "pruned" if trial.state == TrialState.PRUNED.name else ""
    sections = {"search": trial.params, "training": flat(settings)}
    configuration = {}
    if record:
        sections["data"] = flat(record["data"])
        document = {"data": record["config"]["data"], "training": settings}
        configuration["settings"] = ("json", json_text(document))
    return DesiredTask(
        number=trial.number,
        identity=identity,
        name=long_enough(f"{data.name} trial {trial.number}"),
        type="training",
        state=task_state(trial),
        reason=one_line(trial.reason or default_reason),
        comment=_comment(trial, data.name),
        tags=tuple(dict.fromkeys(tags)),
        hyperparams=texts_of(sections),
        configuration=configuration,
        scalars=scalars(trial),
        plots=(*label_plots(trial), *extra_plots),
        lines=_lines(trial, settings.get("epochs")),
    )


def training_settings(trial: TrialData, record: Record | None) -> dict[str, Any]:
    """Returns all settings of a trial's run: the study's, with the trial's own values."""
    settings: dict[str, Any] = deepcopy(dict(record["training"])) if record else {}
    for name, value in trial.params.items():
        *sections, key = name.split(".")
        section = settings
        for step in sections:
            section = section.setdefault(step, {})
        section[key] = value
    return settings


def scalars(trial: TrialData) -> tuple[Scalar, ...]:
    """Returns every number that a trial's epochs reported, by graph."""
    points = []
    for stage in trial.stages:
        at_ms = milliseconds(stage.recorded)
        for name, value in stage.metrics.items():
            if name != "epoch" and is_number(value):
                group, series = graph_of(name)
                points.append(Scalar(group, series, stage.epoch, float(value), at_ms))
    return tuple(points)


@lru_cache(maxsize=1024)
def graph_of(metric: str) -> tuple[str, str]:
    """Returns the title of a metric's graph and the name of its series.

    Metrics that trials are compared by share a graph: ``val_bce_loss`` and ``train_focal_loss`` are
    both ``loss``.
    """
    if metric in _OTHERS:
        return _OTHERS[metric]
    split, _, measure = metric.partition("_")
    if split not in _SPLITS or not measure:
        return metric.replace("_", " "), metric.replace("_", " ")
    if measure.endswith("_loss"):
        return "loss", split
    return {"ap": "AP"}.get(measure, measure.replace("_", " ")), split


def _comment(trial: TrialData, study: str) -> str:
    text = f"Trial {trial.number} of study {study}, mirrored by Canopy."
    if trial.promoted_from not in {None, trial.number}:
        text += f" It resumes the pruned trial {trial.promoted_from}."
    return text


def _lines(trial: TrialData, epochs: Any) -> tuple[LogLine, ...]:
    lines = []
    if trial.began is not None:
        text = f"trial {trial.number} begins: {params_text(trial.params)}"
        lines.append(LogLine(milliseconds(trial.began), one_line(text)))
    for stage in trial.stages:
        lines.append(LogLine(milliseconds(stage.recorded), _epoch_text(stage.metrics, epochs)))
    if trial.ended is not None:
        at_ms = milliseconds(trial.ended)
        word = state_word(trial)
        text = f"{word}: {trial.reason}" if trial.reason else word
        level = "error" if trial.state == TrialState.FAIL.name else "info"
        lines.append(LogLine(at_ms, one_line(f"{text}, AP {ap_text(trial.val_ap)}"), level))
    return tuple(lines)


def _epoch_text(metrics: Mapping[str, Any], epochs: Any) -> str:
    of_epochs = f" of {epochs}" if isinstance(epochs, int) else ""
    parts = [f"epoch {metrics['epoch']}{of_epochs}"]
    parts += [
        f"{name.replace('_', ' ')} {value:.4f}"
        for name, value in metrics.items()
        if name.endswith("_loss") and is_number(value)
    ]
    parts.append(f"AP {ap_text(metrics.get('val_ap'))}")
    parts.append(f"f1 {ap_text(metrics.get('val_f1'))}")
    parts.append(duration_text(training_s(metrics)))
    return "  ".join(parts)
