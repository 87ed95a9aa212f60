"""A confirmation as a terminal table and as sentences."""

from rich import box
from rich.table import Table

from canopy_search.dashboards.formatting.tables import ap_text, params_text
from canopy_search.dashboards.stats.seeds import Difference, Spread
from canopy_search.dashboards.study.confirmation import Confirmation, Confirmed


def confirmation_table(confirmation: Confirmation) -> Table:
    """Returns one row per setting: its trial, mean and spread of validation and test AP."""
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=_title(confirmation),
        title_justify="left",
        title_style="bold",
    )
    tested = any(run.test_ap is not None for each in confirmation.settings for run in each.runs)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("setting")
    table.add_column("val AP ± sd", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    if tested:
        table.add_column("TEST AP ± sd", justify="right", no_wrap=True)
    for each in confirmation.settings:
        is_base = each.candidate.is_baseline
        is_complete = len(each.runs) == len(confirmation.seeds)  # a mean of fewer is misleading
        val_ap, test_ap = (each.val_ap, each.test_ap) if is_complete else (None, None)
        cells = [
            "–" if each.candidate.trial is None else str(each.candidate.trial),
            params_text(each.candidate.params) + " (baseline)" * is_base,
            _spread_text(val_ap) if val_ap else _missing_text(each, confirmation),
            _interval_text(val_ap),
        ]
        table.add_row(*cells, *([_spread_text(test_ap)] if tested else []))
    return table


def confirmation_lines(confirmation: Confirmation) -> list[str]:
    """Returns the result in sentences, one per line."""
    winner = confirmation.winner
    if winner is None or winner.val_ap is None:
        if not confirmation.is_complete:
            runs = len(confirmation.missing)
            return [f"{runs} of {len(confirmation.wanted)} runs are still missing"]
        return ["every setting diverged with at least one seed, so none was chosen"]
    lines = [f"winner: {_name(winner)}, mean validation AP {_spread_text(winner.val_ap)}"]
    second, base = confirmation.second, confirmation.base
    if winner is base:
        lines.append("it is the baseline: the search found nothing better")
    if second is not None and second is not base:
        lines.append(_lead_line(f"the second, {_name(second)}", confirmation.against_second))
    if winner is not base:
        lines.append(_lead_line("the baseline", confirmation.against_baseline))
    if winner.test_ap is not None:
        test = _spread_text(winner.test_ap)
        lines.append(f"TEST AP of the winner: {test}, not used to choose it")
    return lines


def verdict_text(difference: Difference) -> str:
    """Returns a difference with its interval and what it means."""
    return (
        f"{_signed(difference.mean)} ({100 * difference.confidence:.3g} % "
        f"{_signed(difference.low)} to {_signed(difference.high)}, paired over "
        f"{difference.over}): {difference.verdict}"
    )


def _title(confirmation: Confirmation) -> str:
    first, last = confirmation.seeds[0], confirmation.seeds[-1]
    seeds = f"{first} and {last}" if last == first + 1 else f"{first} to {last}"
    finalists = confirmation.finalists
    base = "" if confirmation.base.candidate.is_finalist else " and the baseline"
    return (
        f"{finalists} finalist{'s' * (finalists != 1)}{base} of study {confirmation.study}, "
        f"trained with seeds {seeds}"
    )


def _lead_line(other: str, lead: Difference | None) -> str:
    text = "it diverged with at least one seed" if lead is None else verdict_text(lead)
    return f"against {other}: {text}"


def _name(confirmed: Confirmed) -> str:
    setting = params_text(confirmed.candidate.params)
    trial = confirmed.candidate.trial
    return setting if trial is None else f"trial {trial} ({setting})"


def _missing_text(confirmed: Confirmed, confirmation: Confirmation) -> str:
    if any(run.val_ap is None for run in confirmed.runs):
        return "diverged"
    return f"{len(confirmed.runs)} of {len(confirmation.seeds)} runs"


def _spread_text(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    return ap_text(spread.mean) + ("" if spread.sd is None else f" ± {ap_text(spread.sd)}")


def _interval_text(spread: Spread | None) -> str:
    if spread is None or spread.low is None or spread.high is None:
        return "–"
    return f"{_plain(spread.low)} to {_plain(spread.high)}"


def _plain(value: float) -> str:
    return f"{value:.4f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.4f}"


def _signed(value: float) -> str:
    sign = "−" if round(value, 4) < 0 else "+"
    return sign + _plain(abs(value))


def confirmation_text(confirmation: Confirmation) -> str:
    """Returns the result of a confirmation as a paragraph."""
    lines = confirmation_lines(confirmation)
    seeds = ", ".join(map(str, confirmation.seeds))
    if not confirmation.is_complete:
        return f"Confirmation with seeds {seeds} in progress: {'; '.join(lines)}."
    sentences = [line[:1].upper() + line[1:] for line in lines]
    return f"Trained again with seeds {seeds}. {'. '.join(sentences)}."
