"""Trials side by side as a page: verdicts, settings, metrics, curves and labels."""

import plotly.graph_objects as go

from canopy_search.dashboards.charts.labels import (
    MOST_LABELS,
    LabelDots,
    ahead_text,
    label_figure,
    label_height_px,
)
from canopy_search.dashboards.charts.theme import COLOURS, DASHES, SYMBOLS, new_figure, plain
from canopy_search.dashboards.comparison.comparison import Shown, SideBySide
from canopy_search.dashboards.comparison.text import (
    EPOCHS,
    LABELS,
    METRICS,
    SETTINGS,
    as_sentence,
    comparison_tables,
    interval_note,
    verdict_lines,
)
from canopy_search.dashboards.formatting.tables import score_text
from canopy_search.dashboards.formatting.values import (
    counted,
    difference_text,
    params_text,
    signed_text,
)
from canopy_search.dashboards.html.page import (
    Chart,
    Fact,
    Page,
    Section,
    page_html,
)
from canopy_search.dashboards.stats.difference import Difference


def side_by_side_html(compared: SideBySide) -> str:
    """Returns the page as one self-contained HTML file."""
    return page_html(side_by_side_page(compared))


def side_by_side_page(compared: SideBySide) -> Page:
    """Returns the page; missing data is skipped or reported as missing."""
    lines = verdict_lines(compared)
    studies = list(dict.fromkeys(shown.data.name for shown in compared.trials))
    subject = f"Study {studies[0]}" if len(studies) == 1 else f"Studies {', '.join(studies)}"
    is_answer = len(lines) == 1 and isinstance(compared.others[0].verdict, Difference)
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
    tables = comparison_tables(compared)
    differing = [tables[SETTINGS]] if SETTINGS in tables else []
    nothing = [] if differing else ["The settings are the same."]
    sections = [
        Section("differences", "Settings", nothing, tables=differing),
        Section("results", "Results", tables=[tables[METRICS]]),
    ]
    if EPOCHS in tables:
        chart = Chart("curves", "Learning curves", _curves_sentence(compared), _curves(compared))
        sections.append(Section("learning", "Learning", charts=[chart], tables=[tables[EPOCHS]]))
    if LABELS in tables:
        order = "the most frequent first" if compared.images else "in the model's order"
        title, text = f"AP of each label, {order}", _labels_sentence(compared)
        height_px = label_height_px(len(compared.labels))
        chart = Chart("labels", title, text, [_labels(compared)], height_px)
        sections.append(Section("per-label", "Labels", charts=[chart], tables=[tables[LABELS]]))
    return sections


def _fact(compared: SideBySide, shown: Shown) -> Fact:
    score = score_text(shown.data, shown.trial.score)
    setting = params_text(shown.trial.params)
    if shown is compared.first:
        return Fact(shown.name, score, f"{setting}; the others are compared with it")
    if not isinstance(shown.verdict, Difference):
        return Fact(shown.name, score, f"{setting}; no verdict")
    note = f"{setting}; {difference_text(shown.verdict)}"
    return Fact(shown.name, f"{score}, {shown.verdict.verdict}", note)


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
    if len(compared.labels) > MOST_LABELS:
        parts.append(f"The first {MOST_LABELS} of {len(compared.labels)} labels are drawn.")
    return " ".join(parts) or f"No other trial uses the validation images of {compared.first.name}."


def _gains_text(compared: SideBySide, shown: Shown) -> str:
    ahead = ahead_text(shown.ap_per_label, compared.first.ap_per_label)
    if ahead is None:
        return as_sentence(f"{shown.name} and {compared.first.name} have no label in common.")
    return as_sentence(f"{shown.name}, compared with {compared.first.name}, is {ahead}.")


def _comparable(compared: SideBySide) -> list[Shown]:
    """Returns the trials with the images and the metric of the first one."""
    return [
        shown
        for shown in compared.others
        if compared.is_comparable(shown) and shown.data.metric == compared.first.data.metric
    ]


def _labels(compared: SideBySide) -> go.Figure:
    """Draws each label's AP, with one marker per trial."""
    names = {label: _label_text(compared, label) for label in list(compared.labels)[:MOST_LABELS]}
    dots = [
        LabelDots(
            shown.name,
            shown.ap_per_label,
            {"color": COLOURS[index], "symbol": SYMBOLS[index], "size": 10},
        )
        for index, shown in enumerate(compared.trials)
        if shown.ap_per_label
    ]
    return label_figure(dots, names).update_layout(showlegend=True)


def _label_text(compared: SideBySide, label: str) -> str:
    images = compared.images.get(label)
    return plain(label) if images is None else f"{plain(label)} · {counted(images, 'image')}"
