"""The finalists and the baseline with additional seeds: each run, and the means."""

import plotly.graph_objects as go

from canopy_search.dashboards.charts.theme import ACCENT, FAINT, QUIET, new_figure, plain
from canopy_search.dashboards.formatting.values import ap_text, params_text
from canopy_search.dashboards.html.page import Cell, Chart, Column, Key, Table
from canopy_search.dashboards.stats.difference import BETTER, NO_VERDICT, Spread
from canopy_search.dashboards.study.confirmation import Confirmation, Confirmed

_ROW_PX = 38


def confirmed_charts(confirmation: Confirmation) -> list[Chart]:
    """Returns AP of each seed, if any run has one."""
    if not any(run.val_ap is not None for each in confirmation.settings for run in each.runs):
        return []
    legend = [
        Key("one seed", QUIET, "●"),
        Key("mean and its 95 % interval", ACCENT, "◆"),
        Key("the search, with its own seed", QUIET, "○"),
    ]
    height_px = 100 + _ROW_PX * len(confirmation.settings)
    title = "Validation AP with additional seeds"
    return [
        Chart("seeds", title, sentence(confirmation), [figure(confirmation)], height_px, legend)
    ]


def sentence(confirmation: Confirmation) -> str:
    """Returns how much the seeds of one setting differ, and how much the settings' means."""
    known = [each.val_ap for each in confirmation.settings if each.val_ap is not None]
    spreads = [spread.sd for spread in known if spread.sd is not None]
    if len(known) < 2 or not spreads:
        return "Too few runs so far to estimate the effect of the seed."
    range_ = max(spread.mean for spread in known) - min(spread.mean for spread in known)
    noise = max(spreads)
    text = (
        f"Seeds of one setting differ by a standard deviation of up to {ap_text(noise)}, the means "
        f"of the settings by up to {ap_text(range_)}"
    )
    leads = (confirmation.against_second, confirmation.against_baseline)
    if any(lead is not None and lead.verdict == BETTER for lead in leads):
        return f"{text}: the setting matters more than the seed."
    if any(lead is not None and lead.verdict == NO_VERDICT for lead in leads):
        return f"{text}: {NO_VERDICT}."
    return f"{text}: with so few seeds none of these differences is more than noise."


def figure(confirmation: Confirmation) -> go.Figure:
    """Draws a dot for each seed, and the mean with its interval."""
    drawn = new_figure("validation AP", "")
    rows = list(enumerate(confirmation.settings))
    dots = [(run.val_ap, row, run.seed) for row, each in rows for run in each.runs]
    dots = [dot for dot in dots if dot[0] is not None]
    means = [(row, each.val_ap) for row, each in rows if each.val_ap is not None]
    drawn.add_scatter(
        x=[x for _, spread in means for x in (*_ends(spread), None)],
        y=[y for row, _ in means for y in (row, row, None)],
        mode="lines",
        line={"color": FAINT, "width": 6},
        hoverinfo="skip",
    )
    drawn.add_scatter(
        x=[ap for ap, _, _ in dots],
        y=[row for _, row, _ in dots],
        mode="markers",
        marker={"color": QUIET, "size": 8},
        text=[f"seed {seed}" for _, _, seed in dots],
        hovertemplate="%{text}: %{x:.4f}<extra></extra>",
    )
    searched = [(each.candidate.searched_ap, row) for row, each in rows if _is_comparable(each)]
    drawn.add_scatter(
        x=[ap for ap, _ in searched],
        y=[row for _, row in searched],
        mode="markers",
        marker={"color": QUIET, "size": 8, "symbol": "circle-open", "line": {"width": 1.5}},
        hovertemplate="in the search: %{x:.4f}<extra></extra>",
    )
    drawn.add_scatter(
        x=[spread.mean for _, spread in means],
        y=[row for row, _ in means],
        mode="markers",
        marker={"color": ACCENT, "size": 12, "symbol": "diamond"},
        hovertemplate="mean %{x:.4f}<extra></extra>",
    )
    names = [plain(name_of(each)) for _, each in rows]
    return drawn.update_yaxes(
        tickvals=[row for row, _ in rows],
        ticktext=names,
        range=[len(rows) - 0.4, -0.6],
    ).update_layout(
        showlegend=False,
        meta={"narrow": {"yaxis": {"ticktext": [name.replace(" · ", "<br>") for name in names]}}},
    )


def confirmed_table(confirmation: Confirmation) -> Table:
    """Returns a row for each setting, the best mean first."""
    columns = [Column("setting"), Column("trial", is_number=True), Column("runs", is_number=True)]
    columns += [Column(name, is_number=True) for name in ("mean AP", "sd", "TEST AP", "TEST sd")]
    rows = []
    for each in confirmation.settings:
        number = each.candidate.trial
        runs = len(each.runs)
        rows.append(
            [
                Cell(name_of(each)),
                Cell("–" if number is None else str(number), number),
                Cell(f"{runs} of {len(confirmation.seeds)}", runs),
                *_spread_cells(each.val_ap),
                *_spread_cells(each.test_ap),
            ]
        )
    return Table("confirmed-settings", "Means over the additional seeds", columns, rows)


def name_of(confirmed: Confirmed) -> str:
    """Returns a setting, marked if it is the baseline."""
    base = " (baseline)" if confirmed.candidate.is_baseline else ""
    return params_text(confirmed.candidate.params) + base


def _is_comparable(confirmed: Confirmed) -> bool:
    """Whether the search trained a setting for as many epochs as the confirmation."""
    epochs = {int(run.last.get("epoch", 0)) for run in confirmed.runs}
    return confirmed.candidate.searched_ap is not None and epochs == {
        confirmed.candidate.searched_epochs
    }


def _ends(spread: Spread) -> tuple[float, float]:
    if spread.low is None or spread.high is None:
        return spread.mean, spread.mean
    return spread.low, spread.high


def _spread_cells(spread: Spread | None) -> list[Cell]:
    if spread is None:
        return [Cell("–"), Cell("–")]
    return [Cell(ap_text(spread.mean), spread.mean), Cell(ap_text(spread.sd), spread.sd)]
