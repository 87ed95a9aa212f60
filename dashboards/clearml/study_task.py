"""A study → the desired state of its own task in ClearML, like HyperParameterOptimizer's.

References:
    clearml/automation/optimization.py, `HyperParameterOptimizer._report_completed_status`: titles,
    series and columns of the plots and tables that ClearML's users know.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from optuna.trial import TrialState

from canopy_search.dashboards.clearml.desired_state import (
    COMPLETED,
    RUNNING,
    STOPPED,
    DesiredTask,
    LogLine,
    Plot,
    Scalar,
    flat,
    long_enough,
    text_of,
)
from canopy_search.dashboards.clearml.figures import (
    FINALISTS,
    ap_over_trials,
    label_ap,
    learning_curves,
)
from canopy_search.dashboards.clearml.plotly_json import plot, raw_plot, table
from canopy_search.dashboards.clearml.trial_task import json_text, milliseconds, one_line
from canopy_search.dashboards.formatting.tables import counts_text, spent_text
from canopy_search.dashboards.formatting.values import ap_text, params_text
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.storage.study.mirror_rows import STUDY_TASK

OBJECTIVE = "AP/val"
_ENDED = (TrialState.COMPLETE.name, TrialState.PRUNED.name, TrialState.FAIL.name)


@dataclass(frozen=True)
class Pages:
    """Addresses of the study's tasks on the server.

    Attributes:
        task_ids: trial number → id of its task.
        url: returns the address of a task's page, or None if it is unknown.
        comparison: returns the address that compares tasks, or None if it is unknown.
    """

    task_ids: Mapping[int, str]
    url: Callable[[str], str | None]
    comparison: Callable[[list[str]], str | None]


def study_task(
    summary: StudyData,
    *,
    identity: str,
    record: Mapping[str, Any] | None,
    pages: Pages,
    is_live: bool,
    extra_plots: tuple[Plot, ...] = (),
) -> DesiredTask:
    """Returns the desired state of a study's task.

    Args:
        summary: the study in its current state.
        identity: tag of the task.
        record: settings that the study was started with, if they are known.
        pages: addresses of its trials' tasks.
        is_live: whether a search is running and this mirror follows it.
        extra_plots: figures that need more than the summary.
    """
    state, reason = _state(summary, is_live=is_live)
    return DesiredTask(
        number=STUDY_TASK,
        identity=identity,
        name=long_enough(f"{summary.name} search"),
        type="optimizer",
        state=state,
        reason=reason,
        comment=_comment(summary, pages),
        tags=(identity, "optimization"),
        hyperparams=_hyperparams(summary, record),
        configuration=_configuration(record),
        scalars=_scalars(summary),
        plots=(*_plots(summary, pages), *extra_plots),
        lines=_lines(summary),
    )


def finalists(summary: StudyData) -> list[TrialData]:
    """Returns the best trials, one for each configuration."""
    return summary.best_settings[:FINALISTS]


def _state(summary: StudyData, *, is_live: bool) -> tuple[str, str]:
    is_running = any(trial.state not in _ENDED for trial in summary.trials)
    if summary.is_over and not is_running:
        return COMPLETED, counts_text(summary)
    if is_live or summary.is_searched:
        return RUNNING, ""
    return STOPPED, "no search is running; canopy search resumes it"


def _comment(summary: StudyData, pages: Pages) -> str:
    lines = [f"Search of study {summary.name}, mirrored by Canopy; its trials are the children."]
    best = finalists(summary)
    if best:
        lines.append(
            f"Best so far: trial {best[0].number}, AP {ap_text(best[0].val_ap)}, "
            f"{params_text(best[0].params)}"
        )
    known = [pages.task_ids[trial.number] for trial in best if trial.number in pages.task_ids]
    if known and (url := pages.url(known[0])):
        lines.append(f"The best trial: {url}")
    if len(known) > 1 and (url := pages.comparison(known)):
        lines.append(f"The best {len(known)} compared: {url}")
    return "\n".join(lines)


def _hyperparams(summary: StudyData, record: Mapping[str, Any] | None) -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, Any]] = {"search": {"study": summary.name}}
    if summary.target is not None:
        sections["search"]["trials"] = summary.target
    if record:
        search = record["config"]["search"]
        for key in ("sampler", "pruner", "seed"):
            sections["search"] |= flat({key: search.get(key)})
        sections["search space"] = dict(record["space"])
        sections["training"] = flat(record["training"])
        sections["data"] = flat(record["data"])
    return {
        section: {name: text_of(value) for name, value in values.items()}
        for section, values in sections.items()
    }


def _configuration(record: Mapping[str, Any] | None) -> dict[str, tuple[str, str]]:
    if not record:
        return {}
    kept = ("config", "versions", "git")
    return {
        "search space": ("json", json_text(record["space"])),
        "study": ("json", json_text({key: record.get(key) for key in kept})),
    }


def _in_order(summary: StudyData) -> list[TrialData]:
    """Returns the finished trials in the order in which they ended."""
    ended = [trial for trial in summary.trials if trial.state in _ENDED and trial.ended]
    return sorted(ended, key=lambda trial: (trial.ended, trial.number))


def _scalars(summary: StudyData) -> tuple[Scalar, ...]:
    """Returns the best AP so far and the last one, as HyperParameterOptimizer reports them."""
    scalars: list[Scalar] = []
    best = None
    for step, trial in enumerate(_in_order(summary), start=1):
        at_ms = milliseconds(trial.ended) if trial.ended else 0
        if trial.state == TrialState.COMPLETE.name and trial.val_ap is not None:
            best = trial.val_ap if best is None else max(best, trial.val_ap)
        if best is not None:
            scalars.append(Scalar(OBJECTIVE, "max", step, best, at_ms))
        if trial.val_ap is not None:
            scalars.append(Scalar(OBJECTIVE, "last reported", step, trial.val_ap, at_ms))
        scalars.append(Scalar("trials", "ended", step, float(step), at_ms))
    return tuple(scalars)


def _lines(summary: StudyData) -> tuple[LogLine, ...]:
    lines = []
    for trial in _in_order(summary):
        word = {TrialState.FAIL.name: "failed"}.get(trial.state, trial.state.lower())
        text = f"trial {trial.number} {word}, AP {ap_text(trial.val_ap)}, "
        text += params_text(trial.params)
        text += f": {trial.reason}" if trial.reason else ""
        level = "error" if trial.state == TrialState.FAIL.name else "info"
        at_ms = milliseconds(trial.ended) if trial.ended else 0
        lines.append(LogLine(at_ms, one_line(text), level))
    return tuple(lines)


def _plots(summary: StudyData, pages: Pages) -> tuple[Plot, ...]:
    ranked = _ranked(summary)
    plots = [
        plot("AP over trials", "study", ap_over_trials(summary)),
        plot("Learning curves", "study", learning_curves(summary)),
    ]
    if summary.best is not None:
        plots.append(plot("AP per label", "best trial", label_ap(summary.best)))
    if not ranked:
        return tuple(plots)
    names = sorted({name for trial in ranked for name in trial.params})
    plots += [
        _objective_plot(ranked),
        _summary_table(ranked, names, pages),
        _parallel_plot(ranked, names, pages),
    ]
    totals = [["", ""], ["trials", counts_text(summary)], ["cost", spent_text(summary)]]
    return (*plots, table("totals", "study", totals, title=f"study {summary.name}"))


def _ranked(summary: StudyData) -> list[TrialData]:
    """Returns the trials that reported an AP, the best first."""
    reported = [trial for trial in summary.trials if trial.val_ap is not None]
    return sorted(reported, key=lambda trial: (-(trial.val_ap or 0.0), trial.number))


def _objective_plot(ranked: list[TrialData]) -> Plot:
    trials = sorted(ranked, key=lambda trial: trial.number)
    data = {
        "type": "scatter",
        "mode": "markers",
        "name": OBJECTIVE,
        "x": [trial.number for trial in trials],
        "y": [trial.val_ap for trial in trials],
        "text": [params_text(trial.params) for trial in trials],
    }
    layout = {
        "title": "Optimization Objective",
        "xaxis": {"title": {"text": "job #"}},
        "yaxis": {"title": {"text": "objective"}},
    }
    return raw_plot("Optimization Objective", OBJECTIVE, {"data": [data], "layout": layout})


def _summary_table(ranked: list[TrialData], names: list[str], pages: Pages) -> Plot:
    rows: list[list[Any]] = [["task id", "objective", "iteration", "trial", *names, "status"]]
    for trial in ranked:
        task = pages.task_ids.get(trial.number, "")
        url = pages.url(task) if task else None
        rows.append(
            [
                f'<a href="{escape(url)}"> {escape(task)} </a>' if url else task,
                trial.val_ap,
                len(trial.metrics),
                trial.number,
                *(trial.params.get(name, "") for name in names),
                trial.state.lower(),
            ]
        )
    return table("summary", "job", rows, title=f"objective: {OBJECTIVE}")


def _parallel_plot(ranked: list[TrialData], names: list[str], pages: Pages) -> Plot:
    columns: list[tuple[str, list[Any]]] = [
        ("task id", [f"{pages.task_ids.get(t.number, '')[:6]}..." for t in ranked]),
        ("iteration", [len(trial.metrics) for trial in ranked]),
        ("trial", [trial.number for trial in ranked]),
        *((name, [trial.params.get(name, "") for trial in ranked]) for name in names),
        (OBJECTIVE, [trial.val_ap for trial in ranked]),
    ]
    data = {
        "type": "parcoords",
        "line": {
            "colorscale": "Viridis",
            "reversescale": False,
            "color": [trial.val_ap for trial in ranked],
        },
        "dimensions": [_dimension(name, values) for name, values in columns],
    }
    return raw_plot("Parallel Coordinates", "", {"data": [data], "layout": {}})


def _dimension(name: str, values: list[Any]) -> dict[str, Any]:
    """Returns an axis: numbers as they are, each word at its own position."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return {"label": name, "values": values}
    words = sorted({str(value) for value in values})
    positions = {word: index for index, word in enumerate(words)}
    return {
        "label": name,
        "values": [positions[str(value)] for value in values],
        "tickvals": list(positions.values()),
        "ticktext": words,
    }
