"""A study → the desired state of its own task in ClearML, like HyperParameterOptimizer's."""

from collections.abc import Mapping
from typing import Any

from optuna.trial import TrialState

from canopy_search.dashboards.clearml.desired_state import (
    COMPLETED,
    OBJECTIVE,
    RUNNING,
    STOPPED,
    DesiredTask,
    LogLine,
    Plot,
    Scalar,
    json_text,
    long_enough,
    milliseconds,
    one_line,
    state_word,
    texts_of,
)
from canopy_search.dashboards.clearml.links import Pages
from canopy_search.dashboards.clearml.plots import study_plots
from canopy_search.dashboards.formatting.tables import counts_text
from canopy_search.dashboards.formatting.values import ap_text, params_text
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.dashboards.study.settings import flat
from canopy_search.storage.study.mirror_rows import STUDY_TASK

FINALISTS = 3


def study_task(
    data: StudyData,
    *,
    identity: str,
    pages: Pages,
    is_live: bool,
    extra_plots: tuple[Plot, ...] = (),
) -> DesiredTask:
    """Returns the desired state of a study's task.

    Args:
        data: the study in its current state.
        identity: tag of the task.
        pages: addresses of its trials' tasks.
        is_live: whether a search is running and this mirror follows it.
        extra_plots: figures that need more than the study.
    """
    state, reason = _state(data, is_live=is_live)
    return DesiredTask(
        number=STUDY_TASK,
        identity=identity,
        name=long_enough(f"{data.name} search"),
        type="optimizer",
        state=state,
        reason=reason,
        comment=_comment(data, pages),
        tags=(identity, "optimization"),
        hyperparams=_hyperparams(data),
        configuration=_configuration(data.record),
        scalars=_scalars(data),
        plots=(*study_plots(data, pages), *extra_plots),
        lines=tuple(_line(trial) for trial in _in_order(data)),
    )


def finalists(data: StudyData) -> list[TrialData]:
    """Returns the best trials, one for each configuration."""
    return data.best_settings[:FINALISTS]


def _state(data: StudyData, *, is_live: bool) -> tuple[str, str]:
    if data.is_over and all(trial.has_ended for trial in data.trials):
        return COMPLETED, counts_text(data)
    if is_live or data.is_searched:
        return RUNNING, ""
    return STOPPED, "no search is running; canopy search resumes it"


def _comment(data: StudyData, pages: Pages) -> str:
    lines = [f"Search of study {data.name}, mirrored by Canopy; its trials are the children."]
    best = finalists(data)
    if best:
        lines.append(
            f"Best so far: trial {best[0].number}, AP {ap_text(best[0].val_ap)}, "
            f"{params_text(best[0].params)}"
        )
    known = [trial.number for trial in best if trial.number in pages.task_ids]
    if known and (url := pages.task(known[0])):
        lines.append(f"The best trial: {url}")
    if url := pages.comparison(known):
        lines.append(f"The best {len(known)} compared: {url}")
    return "\n".join(lines)


def _hyperparams(data: StudyData) -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, Any]] = {"search": {"study": data.name}}
    if data.target is not None:
        sections["search"]["trials"] = data.target
    if record := data.record:
        search = record["config"]["search"]
        sections["search"] |= flat({key: search.get(key) for key in ("sampler", "pruner", "seed")})
        sections["search space"] = dict(record["space"])
        sections["training"] = flat(record["training"])
        sections["data"] = flat(record["data"])
    return texts_of(sections)


def _configuration(record: Mapping[str, Any] | None) -> dict[str, tuple[str, str]]:
    if not record:
        return {}
    kept = ("config", "versions", "git")
    return {
        "search space": ("json", json_text(record["space"])),
        "study": ("json", json_text({key: record.get(key) for key in kept})),
    }


def _in_order(data: StudyData) -> list[TrialData]:
    """Returns the finished trials in the order in which they ended."""
    ended = [trial for trial in data.trials if trial.has_ended and trial.ended]
    return sorted(ended, key=lambda trial: (trial.ended, trial.number))


def _scalars(data: StudyData) -> tuple[Scalar, ...]:
    """Returns the best AP so far and the last one, as HyperParameterOptimizer reports them."""
    scalars: list[Scalar] = []
    best = None
    for step, trial in enumerate(_in_order(data), start=1):
        at_ms = milliseconds(trial.ended)
        if trial.is_complete and trial.val_ap is not None:
            best = trial.val_ap if best is None else max(best, trial.val_ap)
        if best is not None:
            scalars.append(Scalar(OBJECTIVE, "max", step, best, at_ms))
        if trial.val_ap is not None:
            scalars.append(Scalar(OBJECTIVE, "last reported", step, trial.val_ap, at_ms))
        scalars.append(Scalar("trials", "ended", step, float(step), at_ms))
    return tuple(scalars)


def _line(trial: TrialData) -> LogLine:
    text = f"trial {trial.number} {state_word(trial)}, AP {ap_text(trial.val_ap)}, "
    text += params_text(trial.params)
    text += f": {trial.reason}" if trial.reason else ""
    level = "error" if trial.state == TrialState.FAIL.name else "info"
    return LogLine(milliseconds(trial.ended), one_line(text), level)
