"""Trials side by side as a page: verdicts, settings, metrics, curves and labels."""

from collections.abc import Iterable

import plotly.graph_objects as go

from canopy_search.dashboards.charts.theme import COLOURS, DASHES, SYMBOLS, new_figure, plain
from canopy_search.dashboards.comparison.comparison import Shown, SideBySide
from canopy_search.dashboards.comparison.text import (
    as_sentence,
    curve_rows,
    interval_note,
    label_rows,
    range_text,
    result_rows,
    setting_rows,
    verdict_lines,
)
from canopy_search.dashboards.formatting.tables import counted, params_text, score_text, signed_text
from canopy_search.dashboards.html.page import (
    Cell,
    Chart,
    Column,
    Fact,
    Page,
    Section,
    Table,
    page_html,
)
from canopy_search.dashboards.stats.verdict import Verdict

_MOST_LABELS = 60
_ROW_PX = 24
_NOTABLE = 0.01


def side_by_side_html(compared: SideBySide) -> str:
    """Returns the page as one self-contained HTML file."""
    return page_html(side_by_side_page(compared))


def side_by_side_page(compared: SideBySide) -> Page:
    """Returns the page; missing data is skipped or reported as missing."""
    lines = verdict_lines(compared)
    studies = list(dict.fromkeys(shown.data.name for shown in compared.trials))
    subject = f"Study {studies[0]}" if len(studies) == 1 else f"Studies {', '.join(studies)}"
    is_answer = len(lines) == 1 and isinstance(compared.others[0].verdict, Verdict)
    title = lines[0] if is_answer else _highest_text(compared)
    paragraphs = [] if is_answer else [f"{line}." for line in lines]
    if note := interval_note(compared):
        paragraphs.append(note)
    return Page(
        kicker=f"{subject}, trials side by side",
        title=title,
        lead=paragraphs,
        facts=[_fact(compared, shown) for shown in compared.trials],
        sections=_sections(compared),
        colophon=f"Written by canopy compare at {compared.first.data.read:%Y-%m-%d %H:%M}.",
    )


def _sections(compared: SideBySide) -> list[Section]:
    step = compared.first.data.step
    settings = _table(compared, "settings", "Settings that differ", setting_rows(compared))
    nothing = [] if settings.rows else ["The settings are the same."]
    sections = [
        Section("differences", "Settings", nothing, tables=[settings] if settings.rows else []),
        Section(
            "results",
            "Results",
            tables=[_table(compared, "metrics", f"After the last {step}", result_rows(compared))],
        ),
    ]
    if compared.epochs:
        chart = Chart("curves", "Learning curves", _curves_sentence(compared), _curves(compared))
        table = _table(compared, "epochs", f"After each {step}", curve_rows(compared), row=step)
        sections.append(Section("learning", "Learning", charts=[chart], tables=[table]))
    if compared.labels:
        shown = min(len(compared.labels), _MOST_LABELS)
        order = "the most frequent first" if compared.images else "in the model's order"
        chart = Chart(
            "labels",
            f"AP of each label, {order}",
            _labels_sentence(compared),
            [_labels(compared)],
            110 + _ROW_PX * shown,
        )
        table = _table(compared, "label-ap", "AP of each label", label_rows(compared), row="label")
        sections.append(Section("per-label", "Labels", charts=[chart], tables=[table]))
    return sections


def _fact(compared: SideBySide, shown: Shown) -> Fact:
    score = score_text(shown.data, shown.trial.score)
    setting = params_text(shown.trial.params)
    if shown is compared.first:
        return Fact(shown.name, score, f"{setting}; the others are compared with it")
    if not isinstance(shown.verdict, Verdict):
        return Fact(shown.name, score, f"{setting}; no verdict")
    return Fact(
        shown.name, f"{score}, {shown.verdict.word}", f"{setting}; {range_text(shown.verdict)}"
    )


def _highest_text(compared: SideBySide) -> str:
    """Returns which trial has the best score, if they can be ranked."""
    scored = [shown for shown in compared.trials if shown.trial.score is not None]
    if len(scored) < 2 or any(
        shown not in _comparable(compared) for shown in scored if shown is not compared.first
    ):
        return f"{len(compared.trials)} trials side by side"
    best = max(scored, key=lambda shown: shown.data.worth(shown.trial.score))
    metric = best.data.metric
    text = f"{best.name} has the best {metric}: {score_text(best.data, best.trial.score)}"
    return as_sentence(text)


def _curves_sentence(compared: SideBySide) -> str:
    """Returns since which epoch each trial is ahead of the first."""
    parts = [_curve_text(compared, shown) for shown in _comparable(compared)]
    return " ".join(parts) or f"No other trial uses the validation images of {compared.first.name}."


def _curve_text(compared: SideBySide, shown: Shown) -> str:
    """Compares a trial with the first one at the last epoch that both have."""
    name = compared.first.name
    first = dict(compared.first.trial.curve)
    common = [(epoch, score) for epoch, score in shown.trial.curve if epoch in first]
    if not common:
        return as_sentence(f"{shown.name} and {name} have no {shown.data.step} in common.")
    worth = shown.data.worth
    gains = [(epoch, worth(score) - worth(first[epoch])) for epoch, score in common]
    last, gain = gains[-1]
    when = f"at {shown.data.step} {last}"
    if gain == 0:
        return as_sentence(f"{shown.name} is level with {name} {when}.")
    far = signed_text(gain)[1:]
    if gain < 0:
        return as_sentence(f"{shown.name} is {far} behind {name} {when}.")
    behind = max((epoch for epoch, gain in gains if gain <= 0), default=None)
    since = next(epoch for epoch, _ in gains if behind is None or epoch > behind)
    text = f"{shown.name} is {far} ahead of {name} {when}"
    return as_sentence(
        f"{text}, and since {shown.data.step} {since}." if since != last else f"{text}."
    )


def _curves(compared: SideBySide) -> list[go.Figure]:
    """Draws one line per trial, and one figure per metric, because they share no axis."""
    figures = []
    for metric in dict.fromkeys(shown.data.metric for shown in compared.trials):
        drawn = new_figure("", metric)
        for index, shown in enumerate(compared.trials):
            if shown.data.metric != metric or not shown.trial.curve:
                continue
            drawn.update_layout(xaxis_title_text=shown.data.step)
            drawn.add_scatter(
                x=[epoch for epoch, _ in shown.trial.curve],
                y=[score for _, score in shown.trial.curve],
                mode="lines+markers",
                name=plain(shown.name),
                line={"color": COLOURS[index], "width": 2.5, "dash": DASHES[index]},
                marker={"symbol": SYMBOLS[index], "size": 8},
                hovertemplate=f"{plain(shown.name)}, %{{x}}: %{{y:.4f}}<extra></extra>",
            )
        if drawn.data:
            drawn.update_xaxes(dtick=1 if max(compared.epochs) <= 20 else None)
            figures.append(drawn.update_layout(showlegend=True))
    return figures


def _labels_sentence(compared: SideBySide) -> str:
    """Returns on how many labels each trial is ahead of the first, and the largest gains."""
    parts = [_gains_text(compared, shown) for shown in _comparable(compared)]
    if len(compared.labels) > _MOST_LABELS:
        parts.append(f"The first {_MOST_LABELS} of {len(compared.labels)} labels are drawn.")
    return " ".join(parts) or f"No other trial uses the validation images of {compared.first.name}."


def _gains_text(compared: SideBySide, shown: Shown) -> str:
    name, base = compared.first.name, compared.first.ap_per_label
    gains = [(ap - base[label], label) for label, ap in shown.ap_per_label.items() if label in base]
    if not gains:
        return as_sentence(f"{shown.name} and {name} have no label in common.")
    better = sum(gain > _NOTABLE for gain, _ in gains)
    worse = sum(gain < -_NOTABLE for gain, _ in gains)
    (most, most_label), (least, least_label) = max(gains), min(gains)
    text = (
        f"{shown.name} is ahead of {name} by more than .01 on {better} of "
        f"{counted(len(gains), 'label')} and behind on {worse}"
    )
    if most > _NOTABLE:
        text += f"; the largest gain is {signed_text(most)} on {most_label}"
    if least < -_NOTABLE:
        text += f"; the largest loss is {signed_text(least)} on {least_label}"
    return as_sentence(f"{text}.")


def _comparable(compared: SideBySide) -> list[Shown]:
    """Returns the trials with the images and the metric of the first one."""
    return [
        shown
        for shown in compared.others
        if compared.is_comparable(shown) and shown.data.metric == compared.first.data.metric
    ]


def _labels(compared: SideBySide) -> go.Figure:
    """Draws each label's AP, with one marker per trial."""
    labels = list(compared.labels)[:_MOST_LABELS]
    names = [_label_text(compared, label) for label in labels]
    drawn = new_figure("AP on validation", "")
    for index, shown in enumerate(compared.trials):
        if not shown.ap_per_label:
            continue
        drawn.add_scatter(
            x=[compared.labels[label][index] for label in labels],
            y=names,
            mode="markers",
            name=plain(shown.name),
            marker={"color": COLOURS[index], "symbol": SYMBOLS[index], "size": 10},
            hovertemplate=f"{plain(shown.name)}, %{{y}}: %{{x:.4f}}<extra></extra>",
        )
    drawn.update_layout(showlegend=True).update_xaxes(range=[-0.02, 1.02])
    return drawn.update_yaxes(type="category", categoryarray=names, autorange="reversed")


def _label_text(compared: SideBySide, label: str) -> str:
    images = compared.images.get(label)
    return plain(label) if images is None else f"{plain(label)} · {counted(images, 'image')}"


def _table(
    compared: SideBySide,
    key: str,
    caption: str,
    rows: Iterable[tuple[str, list[str]]],
    row: str = "",
) -> Table:
    columns = [Column(row or "name")]
    columns += [Column(shown.name, is_number=True) for shown in compared.trials]
    cells = [[Cell(name), *(_cell(text) for text in texts)] for name, texts in rows]
    return Table(key, caption, columns, cells)


def _cell(text: str) -> Cell:
    """Returns a cell, with the difference in brackets after its value."""
    value, _, difference = text.partition("\n")
    shown = f"{value} ({difference})" if difference else value
    try:
        return Cell(shown, float(value))
    except ValueError:
        return Cell(shown)
