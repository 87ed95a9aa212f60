"""A trial → the desired state of its task in ClearML."""

import json
from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime
from functools import lru_cache
from typing import Any

from optuna.trial import TrialState

from canopy_search.dashboards.clearml.desired_state import (
    BEST_TAG,
    DesiredTask,
    LogLine,
    Plot,
    Scalar,
    flat,
    is_number,
    long_enough,
    task_state,
    text_of,
)
from canopy_search.dashboards.clearml.figures import label_ap
from canopy_search.dashboards.clearml.plotly_json import plot, table
from canopy_search.dashboards.formatting.values import ap_text, duration_text, params_text
from canopy_search.dashboards.study.model import TrialData

_TAGS = {TrialState.FAIL.name: "failed"}
_SPLITS = {"train": "train", "val": "val"}
# Metrics whose names are not split_measure → title of the graph, and series.
_OTHERS = {
    "lr": ("learning rate", "lr"),
    "images_per_s": ("speed", "images per second"),
    "train_s": ("seconds", "train"),
    "val_s": ("seconds", "val"),
    "wait_s": ("seconds", "waiting for data"),
    "peak_memory_mib": ("memory", "peak MiB"),
}
_PER_LABEL = "val_ap_per_label"
_LONGEST_REASON = 1000

Record = Mapping[str, Any]


def trial_task(
    trial: TrialData,
    *,
    study: str,
    identity: str,
    record: Record | None,
    is_best: bool,
    extra_plots: tuple[Plot, ...] = (),
) -> DesiredTask:
    """Returns the desired state of a trial's task.

    Args:
        trial: the trial in its current state.
        study: name of its study.
        identity: tag of the task.
        record: settings that the study was started with, if they are known.
        is_best: whether it is currently the study's best trial.
        extra_plots: figures that need more than the trial.
    """
    settings = training_settings(trial, record)
    epochs = settings.get("epochs")
    # The settings of a waiting trial are not chosen yet.
    named = () if trial.state == TrialState.WAITING.name else ("backbone", "loss")
    described = [str(settings[key]) for key in named if settings.get(key)]
    word = _TAGS.get(trial.state, trial.state.lower())
    tags = [identity, *described, word, *([BEST_TAG] if is_best else [])]
    return DesiredTask(
        number=trial.number,
        identity=identity,
        name=long_enough(f"{study} trial {trial.number}"),
        type="training",
        state=task_state(trial),
        reason=one_line(trial.reason or _reason(trial)),
        comment=_comment(trial, study),
        tags=tuple(dict.fromkeys(tags)),
        hyperparams=_hyperparams(trial, settings, record),
        configuration=_configuration(settings, record),
        scalars=scalars(trial),
        plots=(*_label_plots(trial), *extra_plots),
        lines=_lines(trial, epochs),
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


def milliseconds(instant: datetime) -> int:
    """Returns an instant in milliseconds since 1970; a naive one is local time."""
    return round(instant.timestamp() * 1000)


def one_line(text: str) -> str:
    """Returns a reason as a page can show it: one line, no control characters, not too long."""
    line = " ".join(text.split())
    return "".join(char for char in line if char.isprintable())[:_LONGEST_REASON]


def _reason(trial: TrialData) -> str:
    return "pruned" if trial.state == TrialState.PRUNED.name else ""


def _comment(trial: TrialData, study: str) -> str:
    text = f"Trial {trial.number} of study {study}, mirrored by Canopy."
    if trial.promoted_from not in {None, trial.number}:
        text += f" It resumes the pruned trial {trial.promoted_from}."
    return text


def _hyperparams(
    trial: TrialData, settings: Mapping[str, Any], record: Record | None
) -> dict[str, dict[str, str]]:
    sections = {"search": trial.params, "training": flat(settings)}
    if record:
        sections["data"] = flat(record["data"])
    return {
        section: {name: text_of(value) for name, value in values.items()}
        for section, values in sections.items()
    }


def _configuration(
    settings: Mapping[str, Any], record: Record | None
) -> dict[str, tuple[str, str]]:
    if not record:
        return {}
    document = {"data": record["config"]["data"], "training": settings}
    return {"settings": ("json", json_text(document))}


def json_text(document: Any) -> str:
    """Returns a document as indented JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def _label_plots(trial: TrialData) -> tuple[Plot, ...]:
    if not trial.metrics or not trial.metrics[-1].get(_PER_LABEL):
        return ()
    per_label = trial.metrics[-1][_PER_LABEL]
    rows = [["label", "AP"], *([label, ap_text(ap)] for label, ap in per_label.items())]
    return (
        plot("AP per label", "bars", label_ap(trial)),
        table("AP per label", "table", rows),
    )


def _lines(trial: TrialData, epochs: Any) -> tuple[LogLine, ...]:
    lines = []
    if trial.began is not None:
        params = params_text(trial.params)
        lines.append(
            LogLine(milliseconds(trial.began), one_line(f"trial {trial.number} begins: {params}"))
        )
    for stage in trial.stages:
        lines.append(LogLine(milliseconds(stage.recorded), _epoch_text(stage.metrics, epochs)))
    if trial.ended is not None:
        at_ms = milliseconds(trial.ended)
        word = _TAGS.get(trial.state, trial.state.lower())
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
    parts.append(duration_text(metrics["train_s"] + metrics["val_s"]))
    return "  ".join(parts)
