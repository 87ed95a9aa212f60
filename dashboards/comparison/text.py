"""Trials side by side as text: sentences, table cells, and the output of a terminal."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from canopy_search.dashboards.comparison.comparison import Shown, SideBySide
from canopy_search.dashboards.formatting.tables import new_table, score_text
from canopy_search.dashboards.formatting.values import (
    NONE,
    ap_text,
    counted,
    difference_text,
    duration_text,
    interval_text,
    metric_text,
    printable,
    signed_text,
    value_text,
)
from canopy_search.dashboards.html.page import Cell, Column, Table
from canopy_search.dashboards.stats.difference import Difference, Interval, NoVerdict

SETTINGS, METRICS, EPOCHS, LABELS = "settings", "metrics", "epochs", "label-ap"
_MOST_EPOCHS = 10
_MOST_LABELS = 20


def side_by_side_screen(compared: SideBySide) -> RenderableType:
    """Returns the output for a terminal."""
    lines = [*verdict_lines(compared), interval_note(compared)]
    parts: list[RenderableType] = [Text("\n".join(printable(line) for line in lines if line))]
    tables = comparison_tables(compared)
    for key, table in tables.items():
        rows = table.rows
        if key == EPOCHS:  # about ten of them, up to the last
            rows = rows[:: -max(1, -(-len(rows) // _MOST_EPOCHS))][::-1]
        parts.append(_screen_table(table, rows[:_MOST_LABELS] if key == LABELS else rows))
    if LABELS in tables and (more := len(tables[LABELS].rows[_MOST_LABELS:])):
        parts.append(Text(f"and {more} rarer labels; --output FILE writes all"))
    return Group(*parts)


def comparison_tables(compared: SideBySide) -> dict[str, Table]:
    """Returns the tables that have rows by key, with a column for each trial."""
    step = compared.first.data.step
    found = {
        SETTINGS: ("name", "Settings that differ", _setting_rows(compared)),
        METRICS: ("name", f"After the last {step}", _result_rows(compared)),
        EPOCHS: (step, f"After each {step}", _curve_rows(compared)),
        LABELS: ("label", "AP of each label", _label_rows(compared)),
    }
    trials = [Column(shown.name, is_number=True) for shown in compared.trials]
    tables = {
        key: Table(
            key,
            caption,
            [Column(row), *trials],
            [[Cell(name), *(_cell(text) for text in texts)] for name, texts in rows],
        )
        for key, (row, caption, rows) in found.items()
    }
    return {key: table for key, table in tables.items() if table.rows}


def _setting_rows(compared: SideBySide) -> Iterator[tuple[str, list[str]]]:
    """Yields each setting that differs, and a cell for each trial."""
    for name, values in compared.differing.items():
        yield name, [_setting_text(value) for value in values]


def _result_rows(compared: SideBySide) -> Iterator[tuple[str, list[str]]]:
    """Yields each metric with its differences to the first trial, then verdict, time and state."""
    trials = compared.trials
    for name, values in compared.results.items():
        cells = _number_texts(compared, values)
        yield name, _with_differences(compared, cells, values)
    intervals = [shown.interval for shown in trials]
    if any(isinstance(interval, Interval) for interval in intervals):
        yield (
            "95 % interval",
            [
                NONE if isinstance(each, NoVerdict) else interval_text(each.low, each.high)
                for each in intervals
            ],
        )
    if any(isinstance(shown.verdict, Difference) for shown in trials):
        yield "verdict", [_verdict_text(shown.verdict) for shown in trials]
    yield f"last {compared.first.data.step}", [str(shown.trial.epochs) for shown in trials]
    seconds = [shown.trial.duration_s for shown in trials]
    yield "time", [NONE if each is None else duration_text(each) for each in seconds]
    yield "state", [shown.trial.state.lower() for shown in trials]


def _curve_rows(compared: SideBySide) -> Iterator[tuple[str, list[str]]]:
    """Yields the trials' scores after each epoch."""
    for epoch in compared.epochs:
        scores = [shown.trial.score_at(epoch) for shown in compared.trials]
        yield str(epoch), _number_texts(compared, scores)


def _label_rows(compared: SideBySide) -> Iterator[tuple[str, list[str]]]:
    """Yields each label with its AP and the difference to the first trial."""
    for label, values in compared.labels.items():
        yield label, _with_differences(compared, [ap_text(value) for value in values], values)


def verdict_lines(compared: SideBySide) -> list[str]:
    """Returns a sentence for each trial except the first."""
    return [as_sentence(verdict_line(compared, shown)) for shown in compared.others]


def verdict_line(compared: SideBySide, shown: Shown) -> str:
    """Returns the verdict on a trial against the first one."""
    verdict, first = shown.verdict, compared.first
    if not isinstance(verdict, Difference):
        reason = verdict.reason if isinstance(verdict, NoVerdict) else ""
        return f"{shown.name} against {first.name}: no verdict, {reason}"
    text = f"{shown.name} is {verdict.than} {first.name}: AP {difference_text(verdict)}"
    if shown.trial.epochs != first.trial.epochs:
        epochs = counted(shown.trial.epochs, "epoch")
        text += f"; it has {epochs}, {first.name} has {first.trial.epochs}"
    return text


def as_sentence(text: str) -> str:
    """Capitalises a text, unless it starts with a study's name."""
    return f"T{text[1:]}" if text.startswith("trial ") else text


def interval_note(compared: SideBySide) -> str:
    """Returns what the intervals are adjusted for, if there are any."""
    if not any(isinstance(shown.verdict, Difference) for shown in compared.trials):
        return ""
    validation = next(s.predictions.validation for s in compared.trials if s.predictions)
    return (
        f"Intervals are from a bootstrap over {len(validation.targets):,} validation images, "
        f"adjusted for {compared.looked_at} settings that were tried. All are compared with "
        f"{compared.first.name}, which should be the baseline or the best."
    )


def _cell(text: str) -> Cell:
    """Returns a cell, with its number to sort by."""
    value = re.sub(r" \(.*\)", "", text)
    try:
        return Cell(text, float(value))
    except ValueError:
        return Cell(text)


def _screen_table(table: Table, rows: Sequence[Sequence[Cell]]) -> RichTable:
    shown = new_table(f"\n{table.caption}")
    shown.add_column("", no_wrap=True, max_width=24)
    for column in table.columns[1:]:
        shown.add_column(Text(printable(column.name)), justify="right", overflow="fold")
    for cells in rows:
        shown.add_row(*(Text(printable(cell.text)) for cell in cells))
    return shown


def _setting_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(value_text, value)) or "none"
    text = NONE if value is None else value_text(value)
    # The start of a fingerprint is enough to distinguish it.
    return text if len(text) < 40 else f"{text[:12]}…"


def _number_texts(compared: SideBySide, values: Sequence[float | None]) -> list[str]:
    pairs = zip(compared.trials, values, strict=True)
    return [
        metric_text(value) if shown.data.is_ours else score_text(shown.data, value)
        for shown, value in pairs
    ]


def _with_differences(
    compared: SideBySide, cells: Sequence[str], values: Sequence[float | None]
) -> list[str]:
    """Returns the cells; each except the first has its difference to the first in brackets."""
    first, texts = values[0], []
    for shown, cell, value in zip(compared.trials, cells, values, strict=True):
        has_difference = shown is not compared.first and compared.is_comparable(shown)
        if not has_difference or value is None or first is None:
            texts.append(cell)
        else:
            texts.append(f"{cell} ({signed_text(value - first)})")
    return texts


def _verdict_text(verdict: Difference | NoVerdict | None) -> str:
    if verdict is None:
        return ""
    return verdict.verdict if isinstance(verdict, Difference) else NONE
