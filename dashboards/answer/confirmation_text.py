"""A confirmation as a terminal table and as sentences."""

from rich.table import Table

from canopy_search.dashboards.formatting.tables import new_table
from canopy_search.dashboards.formatting.values import (
    NONE,
    capitalised,
    counted,
    interval_text,
    params_text,
    signed_interval,
    signed_text,
    spread_text,
)
from canopy_search.dashboards.stats.difference import Difference
from canopy_search.dashboards.study.confirmation import Confirmation, Confirmed


def confirmation_table(confirmation: Confirmation) -> Table:
    """Returns one row per setting: its trial, mean and spread of validation and test AP."""
    table = new_table(_title(confirmation))
    heading, *rows = confirmation_rows(confirmation)
    for name in heading:
        is_setting = name == "setting"
        table.add_column(name, justify="left" if is_setting else "right", no_wrap=not is_setting)
    for row in rows:
        table.add_row(*row)
    return table


def confirmation_rows(confirmation: Confirmation) -> list[list[str]]:
    """Returns the heading of a table, then one row per setting."""
    tested = any(run.test_ap is not None for each in confirmation.settings for run in each.runs)
    heading = ["trial", "setting", "val AP ± sd", "95 % interval"]
    rows = [[*heading, "TEST AP ± sd"] if tested else heading]
    for each in confirmation.settings:
        is_complete = len(each.runs) == len(confirmation.seeds)  # a mean of fewer is misleading
        val_ap, test_ap = (each.val_ap, each.test_ap) if is_complete else (None, None)
        cells = [
            NONE if each.candidate.trial is None else str(each.candidate.trial),
            params_text(each.candidate.params) + " (baseline)" * each.candidate.is_baseline,
            spread_text(val_ap) if val_ap else _missing_text(each, confirmation),
            NONE if val_ap is None else interval_text(val_ap.low, val_ap.high),
        ]
        rows.append([*cells, spread_text(test_ap)] if tested else cells)
    return rows


def confirmation_lines(confirmation: Confirmation) -> list[str]:
    """Returns the result in sentences, one per line."""
    winner = confirmation.winner
    if winner is None or winner.val_ap is None:
        if not confirmation.is_complete:
            runs = len(confirmation.missing)
            return [f"{runs} of {len(confirmation.wanted)} runs are still missing"]
        return ["every setting diverged with at least one seed, so none was chosen"]
    lines = [f"winner: {_name(winner)}, mean validation AP {spread_text(winner.val_ap)}"]
    second, base = confirmation.second, confirmation.base
    if winner is base:
        lines.append("it is the baseline: the search found nothing better")
    if second is not None and second is not base:
        lines.append(_lead_line(f"the second, {_name(second)}", confirmation.against_second))
    if winner is not base:
        lines.append(_lead_line("the baseline", confirmation.against_baseline))
    if winner.test_ap is not None:
        test = spread_text(winner.test_ap)
        lines.append(f"TEST AP of the winner: {test}, not used to choose it")
    return lines


def _title(confirmation: Confirmation) -> str:
    first, last = confirmation.seeds[0], confirmation.seeds[-1]
    seeds = f"{first} and {last}" if last == first + 1 else f"{first} to {last}"
    finalists = confirmation.finalists
    base = "" if confirmation.base.candidate.is_finalist else " and the baseline"
    return (
        f"{counted(finalists, 'finalist')}{base} of study {confirmation.study}, "
        f"trained with seeds {seeds}"
    )


def _lead_line(other: str, lead: Difference | None) -> str:
    if lead is None:
        return f"against {other}: it diverged with at least one seed"
    return (
        f"against {other}: {signed_text(lead.mean)} ({100 * lead.confidence:.3g} % "
        f"{signed_interval(lead)}, paired over {lead.over}): {lead.verdict}"
    )


def _name(confirmed: Confirmed) -> str:
    setting = params_text(confirmed.candidate.params)
    trial = confirmed.candidate.trial
    return setting if trial is None else f"trial {trial} ({setting})"


def _missing_text(confirmed: Confirmed, confirmation: Confirmation) -> str:
    if any(run.val_ap is None for run in confirmed.runs):
        return "diverged"
    return f"{len(confirmed.runs)} of {len(confirmation.seeds)} runs"


def confirmation_text(confirmation: Confirmation) -> str:
    """Returns the result of a confirmation as a paragraph."""
    lines = confirmation_lines(confirmation)
    seeds = ", ".join(map(str, confirmation.seeds))
    if not confirmation.is_complete:
        return f"Confirmation with seeds {seeds} in progress: {'; '.join(lines)}."
    return f"Trained again with seeds {seeds}. {'. '.join(map(capitalised, lines))}."
