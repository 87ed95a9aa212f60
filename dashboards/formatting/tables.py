"""A study as tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import TrialState
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from canopy_search.dashboards.study.reader import StudyData
from canopy_search.dashboards.study.summary import StudySummary, TrialSummary
from canopy_search.storage.workers.registry import WorkerSummary


def duration_text(seconds: float) -> str:
    """Returns a duration as a person says it: ``8 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def ap_text(val_ap: float | None) -> str:
    """Returns an AP with four digits and no leading zero, or a dash."""
    return "–" if val_ap is None else f"{val_ap:.4f}".removeprefix("0")


def signed_text(difference: float) -> str:
    """Returns a difference with its sign: four digits, or as many that mean anything."""
    sign = "+" if difference >= 0 else "−"
    size = abs(difference)
    return sign + (ap_text(size) if size <= 1 else f"{size:.4g}")


def value_text(value: Any) -> str:
    """Returns the value of a parameter, floats as short as they can be told apart."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def counted(number: int, noun: str) -> str:
    """Returns ``1 worker`` or ``3 workers``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed_text(words: Sequence[str]) -> str:
    """Returns ``a``, ``a and b`` or ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def params_text(params: Mapping[str, Any]) -> str:
    """Returns a setting in one line; a category speaks for itself, a number needs its name."""
    return " · ".join(
        value if isinstance(value, str) else f"{name} {value_text(value)}"
        for name, value in params.items()
    )


def trials_table(
    trials: Sequence[TrialSummary], title: str | None = None, width: int | None = None
) -> Table:
    """Returns one row a trial: number, parameters, AP, epochs, time, state.

    A column says what plain Optuna was told, and a last one why trials failed or diverged, if any
    did. Where columns for all parameters would be too wide they are one, which wraps.

    Args:
        trials: in the order of the rows.
        title: above the table.
        width: columns of the terminal, if they are few.
    """
    table = _trials_table(trials, title, one_column=False)
    if width is not None and _least_width(table) > width:
        table = _trials_table(trials, title, one_column=True)
    return table


def _trials_table(trials: Sequence[TrialSummary], title: str | None, *, one_column: bool) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=title and Text(title, style="bold"),
        title_justify="left",
    )
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    reasons = any(trial.has_gone_wrong and trial.reason for trial in trials)
    told = any(trial.value is not None for trial in trials)
    table.add_column("trial", justify="right", no_wrap=True)
    if one_column:
        table.add_column("setting", min_width=16, overflow="fold")
        names = []
    for name in names:
        numeric = all(isinstance(trial.params.get(name), int | float | None) for trial in trials)
        table.add_column(
            Text(printable(name)), justify="right" if numeric else "left", no_wrap=True
        )
    for name in ["value"] * told + ["val AP", "epochs", "time"]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=not one_column)
    if reasons:
        table.add_column("reason", min_width=20, overflow="fold")
    for trial in trials:
        reason = trial.reason if trial.has_gone_wrong and trial.reason else ""
        cells = [
            str(trial.number),
            *([params_text(trial.params)] * one_column),
            *(value_text(trial.params.get(name, "–")) for name in names),
            *(["–" if trial.value is None else value_text(trial.value)] * told),
            ap_text(trial.val_ap),
            *(["–", "–"] if trial.value is not None else _epochs_and_time(trial)),
            _state_text(trial),
            *([reason] * reasons),
        ]
        # As texts, since rich takes brackets in a string for markup.
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _epochs_and_time(trial: TrialSummary) -> list[str]:
    return [str(len(trial.metrics)), duration_text(trial.seconds)]


def printable(text: str) -> str:
    """Returns a text without what would move the cursor or colour the screen."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _least_width(table: Table) -> int:
    """Returns how many columns a table needs at least."""
    return Console(width=10_000).measure(table).minimum


def _state_text(trial: TrialSummary) -> str:
    """Returns how a trial stands, and where it comes from if a person promoted it."""
    state = trial.state.lower()
    if trial.promoted_from in {None, trial.number}:
        return state
    return f"{state} (promoted from {trial.promoted_from})"


def counts_text(summary: StudySummary) -> str:
    """Returns in one line how many trials ended how."""
    parts = [
        f"{summary.finished} finished ({summary.count(TrialState.COMPLETE)} complete, "
        f"{summary.count(TrialState.PRUNED)} pruned)"
    ]
    if failed := summary.count(TrialState.FAIL):
        parts.append(f"{failed} failed")
    if running := summary.count(TrialState.RUNNING):
        parts.append(f"{running} running")
    if interrupted := len(summary.interrupted):
        parts.append(f"{interrupted} interrupted")
    if paused := summary.paused:
        parts.append(f"{paused} paused")
    if waiting := summary.count(TrialState.WAITING):
        parts.append(f"{waiting} waiting")
    return " · ".join(parts)


def spent_text(summary: StudySummary) -> str:
    """Returns in one line what the study cost."""
    trained, replayed = summary.epochs_trained, summary.epochs_replayed
    word = "epoch" if trained == 1 else "epochs"
    text = f"{trained} {word} trained in {duration_text(summary.seconds)}"
    if replayed:
        text += f"; {replayed} of {summary.epochs_reported} reported ones were known already"
    return text


def score_text(data: StudyData, score: float | None) -> str:
    """Returns a score as it is written: an AP with four digits, other values with as many."""
    if data.is_ours or score is None:
        return ap_text(score)
    return f"{score:.4g}"


def percent_text(share: float) -> str:
    """Returns a share as it is written here: ``41 %``."""
    return f"{100 * share:.0f} %"


def worker_name(worker: WorkerSummary) -> str:
    """Returns which worker it is: machine, device and process."""
    return f"{worker.host} {worker.slot} ({worker.pid})"
