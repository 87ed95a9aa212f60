"""A study as tables for a terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from canopy_search.dashboards.formatting.values import (
    NONE,
    ap_text,
    counted,
    duration_text,
    params_text,
    printable,
    value_text,
)
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.storage.workers.registry import WorkerSummary


def new_table(title: str | None = None) -> Table:
    """Returns an empty table in Canopy's style, with a title above it."""
    return Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=title and Text(title, style="bold"),
        title_justify="left",
    )


def trials_table(
    trials: Sequence[TrialData], title: str | None = None, width: int | None = None
) -> Table:
    """Returns one row per trial: number, parameters, AP, epochs, time, state.

    If needed, there are columns for the value of a trial of plain Optuna and for the reason why a
    trial failed or diverged. If one column per parameter is too wide, all share one that wraps.

    Args:
        trials: in the order of the rows.
        title: above the table.
        width: of the terminal, in characters; None for no limit.
    """
    table = _trials_table(trials, title, one_column=False)
    if width is not None and _least_width(table) > width:
        table = _trials_table(trials, title, one_column=True)
    return table


def _trials_table(trials: Sequence[TrialData], title: str | None, *, one_column: bool) -> Table:
    table = new_table(title)
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    reasons = any(trial.has_gone_wrong and trial.reason for trial in trials)
    has_values = any(trial.value is not None for trial in trials)
    table.add_column("trial", justify="right", no_wrap=True)
    if one_column:
        table.add_column("setting", min_width=16, overflow="fold")
        names = []
    for name in names:
        numeric = all(isinstance(trial.params.get(name), int | float | None) for trial in trials)
        table.add_column(
            Text(printable(name)), justify="right" if numeric else "left", no_wrap=True
        )
    for name in ["value"] * has_values + ["val AP", "epochs", "time"]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=not one_column)
    if reasons:
        table.add_column("reason", min_width=20, overflow="fold")
    for trial in trials:
        reason = trial.reason if trial.has_gone_wrong and trial.reason else ""
        cells = [
            str(trial.number),
            *([params_text(trial.params)] * one_column),
            *(value_text(trial.params.get(name, NONE)) for name in names),
            *([NONE if trial.value is None else value_text(trial.value)] * has_values),
            ap_text(trial.val_ap),
            *([NONE, NONE] if trial.value is not None else _epochs_and_time(trial)),
            _state_text(trial),
            *([reason] * reasons),
        ]
        # As `Text`, since rich reads brackets in a string as markup.
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _epochs_and_time(trial: TrialData) -> list[str]:
    return [str(len(trial.metrics)), duration_text(trial.seconds)]


def _least_width(table: Table) -> int:
    """Returns the smallest width of a table, in characters."""
    return Console(width=10_000).measure(table).minimum


def _state_text(trial: TrialData) -> str:
    """Returns a trial's state, and the trial it continues if the user promoted one."""
    state = trial.state.lower()
    if trial.promoted_from in {None, trial.number}:
        return state
    return f"{state} (promoted from {trial.promoted_from})"


def counts_text(data: StudyData) -> str:
    """Returns the number of trials per state in one line."""
    counts = data.counts
    finished = f"{counts['finished']} finished ({counts['complete']} complete, "
    others = ("failed", "running", "interrupted", "paused", "waiting")
    parts = [f"{counts[word]} {word}" for word in others if counts[word]]
    return " · ".join([f"{finished}{counts['pruned']} pruned)", *parts])


def spent_text(summary: StudyData) -> str:
    """Returns the cost of the study in one line."""
    trained, replayed = summary.epochs_trained, summary.epochs_replayed
    text = f"{counted(trained, 'epoch')} trained in {duration_text(summary.seconds)}"
    if replayed:
        text += f"; {replayed} of {summary.epochs_reported} reported epochs were reused"
    return text


def score_text(data: StudyData, score: float | None) -> str:
    """Returns a score with four digits, or a dash."""
    if data.is_ours or score is None:
        return ap_text(score)
    return f"{score:.4g}"


def objectives_text(data: StudyData) -> str:
    """Returns that only the first of several objectives is shown."""
    return f"The study has {data.objectives} objectives; everything here is about the first one."


def worker_name(worker: WorkerSummary) -> str:
    """Returns a worker's machine, device and process."""
    return f"{worker.host} {worker.slot} ({worker.pid})"
