"""The screen of `canopy status --watch`: a study, its workers and their trials."""

from collections.abc import Sequence
from typing import Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from canopy_search.dashboards.formatting.tables import counts_text
from canopy_search.dashboards.formatting.values import (
    age_text,
    ap_text,
    counted,
    params_text,
    printable,
)
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.dashboards.terminal.status import (
    best_text,
    control_text,
    doing_text,
    is_recent,
    state_text,
    trouble_lines,
)
from canopy_search.storage.workers.registry import LEFT, WorkerSummary

FEWEST_ROWS = 3
_BAR = 24
_MOST_HOST = 14
_SHRINKING = ("host", "state", "setting")
_OTHER_LINES = 10
"""Lines of headings, below the tables, and between the parts."""
_STYLES = {"works": "green", "waits": "cyan", LEFT: "dim"}


def watch_screen(summary: StudyData, height: int, note: str = "") -> RenderableType:
    """Returns the screen of a study; no line is wider than the terminal.

    Args:
        summary: of the study.
        height: of the terminal, in lines; tables are shortened to fit.
        note: an additional message for the user.
    """
    head = [_progress_line(summary), Text(counts_text(summary))]
    head += [Text(best_text(summary, summary.best))] if summary.best is not None else []
    control = control_text(summary)
    head += [Text(control, style="yellow")] if control else []
    head += [Text(note, style="red")] if note else []
    troubles = [Text(line, style="red") for line in trouble_lines(summary)]
    free = height - len(head) - len(troubles) - _OTHER_LINES
    leased = _leased(summary)
    rows = max(FEWEST_ROWS, free // 2, free - len(leased))
    parts = [*_cut(head), *_workers(summary, rows)]
    parts += _trials(leased, max(FEWEST_ROWS, free - rows)) if leased else []
    return Group(*parts, *([Text(), *_cut(troubles)] if troubles else []))


def workers_table(workers: Sequence[WorkerSummary]) -> Table:
    """Returns one row per worker: its name, trial, last heartbeat and progress, and state."""
    right = ("pid", "seen", "moved")
    table = _table("host", "slot", "pid", "does", "seen", "moved", "state", right=right)
    for worker in workers:
        state = state_text(worker)
        table.add_row(
            _host(worker),
            _cell(worker.slot),
            str(worker.pid),
            _cell(doing_text(worker)),
            age_text(worker.idle_s),
            age_text(worker.stuck_s),
            _cell(state, _STYLES.get(state, "red")),
        )
    return table


def _progress_line(summary: StudyData) -> Text:
    done = summary.finished + summary.paused
    what = "trials finished or paused" if summary.paused else "trials finished"
    if summary.target is None:
        return Text(f"{summary.name}  {done} {what}", style="bold")
    filled = min(_BAR, _BAR * done // summary.target)
    bar = "━" * filled + "╌" * (_BAR - filled)
    return Text(f"{summary.name}  {bar}  {done} of {summary.target} {what}", style="bold")


def _workers(summary: StudyData, most: int) -> list[RenderableType]:
    """Returns one row per active or recently ended worker, and one line for the others."""
    living = [worker for worker in summary.workers if worker.is_living]
    ended = [worker for worker in summary.workers if not worker.is_living]
    listed = [*living, *sorted(filter(is_recent, ended), key=lambda worker: worker.idle_s)]
    parts: list[RenderableType] = [Text()]
    parts += [workers_table(listed[:most])] if listed else []
    parts += [] if living else [Text("no active workers", style="yellow")]
    below = [f"{len(listed) - most} more"] if len(listed) > most else []
    if old := [worker for worker in ended if not is_recent(worker)]:
        left = sum(worker.end == LEFT for worker in old)
        how = f"{left} left, {len(old) - left} died" if left < len(old) else "left"
        below.append(f"{counted(len(old), 'earlier worker')}: {how}")
    return parts + ([_cell("; ".join(below), "dim")] if below else [])


def _leased(summary: StudyData) -> list[tuple[TrialData, WorkerSummary]]:
    """Returns the trials that active workers hold, each with its worker."""
    holders = {worker.trial_number: worker for worker in summary.workers if worker.is_living}
    return [(trial, holders[trial.number]) for trial in summary.trials if trial.number in holders]


def _trials(leased: Sequence[tuple[TrialData, WorkerSummary]], most: int) -> list[RenderableType]:
    """Returns one row per leased trial."""
    right = ("trial", "epochs", "AP", "pid")
    table = _table("trial", "setting", "epochs", "AP", "host", "pid", right=right)
    for trial, worker in leased[:most]:
        table.add_row(
            str(trial.number),
            _cell(params_text(trial.params)),
            str(len(trial.metrics)),
            ap_text(trial.val_ap),
            _host(worker),
            str(worker.pid),
        )
    below = [_cell(f"{len(leased) - most} more", "dim")] if len(leased) > most else []
    return [Text(), table, *below]


def _table(*names: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in names:
        justify: Literal["left", "right"] = "right" if name in right else "left"
        table.add_column(name, justify=justify, no_wrap=name not in _SHRINKING)
    return table


def _host(worker: WorkerSummary) -> Text:
    host = worker.host
    return _cell(host if len(host) <= _MOST_HOST else f"{host[: _MOST_HOST - 1]}…")


def _cell(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")


def _cut(lines: Sequence[Text]) -> list[Text]:
    for line in lines:
        line.plain = printable(line.plain)
        line.no_wrap, line.overflow = True, "ellipsis"
    return list(lines)
