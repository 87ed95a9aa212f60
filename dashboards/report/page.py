"""The report of a study: one HTML page that starts with the answer."""

from collections.abc import Mapping
from typing import Any

from canopy_search.dashboards.answer.headline import answer_of, facts, lead, title
from canopy_search.dashboards.charts.study_charts import chart_sections
from canopy_search.dashboards.formatting.tables import score_text
from canopy_search.dashboards.formatting.values import duration_text, value_text
from canopy_search.dashboards.html.page import Cell, Column, Page, Section, Table, page_html
from canopy_search.dashboards.study.model import StudyData, TrialData


def report_html(data: StudyData) -> str:
    """Returns the report of a study as one self-contained HTML file."""
    return page_html(report_page(data))


def report_page(data: StudyData) -> Page:
    """Returns the report of a study.

    Args:
        data: the study; sections without data are omitted.
    """
    answer = answer_of(data)
    return Page(
        kicker=f"Study {data.name}",
        title=title(data),
        lead=lead(data, answer),
        facts=facts(data, answer),
        sections=_sections(data),
        colophon=_colophon(data),
    )


def trials_table(data: StudyData) -> Table:
    """Returns all trials of a study, one per row."""
    names = list(data.distributions)
    numeric, categorical = set(data.numeric), data.categorical
    columns = [Column("trial", is_number=True)]
    columns += [Column(n, is_number=n in numeric, is_choice=n in categorical) for n in names]
    columns += [Column("AP" if data.is_ours else data.metric, is_number=True)]
    columns += [Column(f"{data.step}s", is_number=True)]
    columns += [Column("trained", is_number=True)] if data.is_ours else []
    columns += [Column("time", is_number=True), Column("state", is_choice=True)]
    has_reasons = any(trial.reason for trial in data.trials)
    columns += [Column("reason")] if has_reasons else []
    rows = []
    for trial in data.trials:
        row = [_number(trial.number, str(trial.number))]
        row += [_param(trial.params, name, is_number=name in numeric) for name in names]
        row += [_number(trial.score, score_text(data, trial.score)), _number(trial.epochs)]
        row += [_number(trial.epochs_trained)] if data.is_ours else []
        row += [_duration(trial), Cell(trial.state.lower())]
        row += [Cell(trial.reason or "")] if has_reasons else []
        rows.append(row)
    caption = f"All {len(rows)} trials; click a heading to sort, again to reverse"
    return Table("trials", caption, columns, rows, has_filter=len(rows) > 1)


def _sections(data: StudyData) -> list[Section]:
    trials = Section("all", "All trials", tables=[trials_table(data)])
    return [*chart_sections(data), *([trials] if data.trials else [])]


def _colophon(data: StudyData) -> str:
    zone = data.read.astimezone().tzname() or "local time"
    text = f"Study {data.name} as of {data.read:%Y-%m-%d %H:%M} {zone}."
    versions: Mapping[str, Any] = (data.record or {}).get("versions", {})
    named = [
        f"{name} {versions[name]}"
        for name in ("canopy-search", "optuna", "torch")
        if name in versions
    ]
    made = f" Started with {', '.join(named)}." if named else ""
    fingerprint = (data.record or {}).get("data", {}).get("fingerprint")
    where = f" Data {fingerprint[:12]}." if isinstance(fingerprint, str) else ""
    return f"{text}{made}{where}{_test_text(data)}"


def _test_text(data: StudyData) -> str:
    """Says which settings were scored on the test images."""
    if not data.is_ours:
        return ""
    settings = data.confirmation.settings if data.confirmation is not None else ()
    if any(run.test is not None for each in settings for run in each.runs):
        return " Settings were chosen on validation; only confirmed ones were scored on test."
    return " Settings are chosen on validation; test images were not used."


def _param(params: Mapping[str, Any], name: str, *, is_number: bool) -> Cell:
    if name not in params:
        return Cell("–")
    value = params[name]
    return Cell(value_text(value), float(value) if is_number else None)


def _number(value: float | None, text: str | None = None) -> Cell:
    return Cell(str(value) if text is None else text, value)


def _duration(trial: TrialData) -> Cell:
    seconds = trial.duration_s
    return Cell("–") if seconds is None else Cell(duration_text(seconds), seconds)
